"""Denoising score matching: weightings, the sampling of times, and the loop."""

from .batches import deviation
from .labels import Labels, labels_of
from .savable import check_savable
from .times import TIMES, Times
from .trainer import Progress, Schedule, State, start, train
from .weighting import WEIGHTINGS, Weighting

__all__ = [
    "TIMES",
    "WEIGHTINGS",
    "Labels",
    "Progress",
    "Schedule",
    "State",
    "Times",
    "Weighting",
    "check_savable",
    "deviation",
    "labels_of",
    "start",
    "train",
]
