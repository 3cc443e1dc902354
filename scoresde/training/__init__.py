"""Denoising score matching: weightings, the sampling of times, and the loop."""

from .data_scale import deviation
from .labels import Labels, labels_of
from .levels import levels_of, load_levels
from .loop import train
from .options import LevelOptions, TrainingOptions
from .savable import check_savable
from .state import Progress, TrainingState, start
from .time_sampling import TIME_SAMPLINGS, TimeSampling
from .weighting import WEIGHTINGS, Weighting

__all__ = [
    "TIME_SAMPLINGS",
    "WEIGHTINGS",
    "Labels",
    "LevelOptions",
    "Progress",
    "TimeSampling",
    "TrainingOptions",
    "TrainingState",
    "Weighting",
    "check_savable",
    "deviation",
    "labels_of",
    "levels_of",
    "load_levels",
    "start",
    "train",
]
