"""Denoising score matching: weightings, the sampling of times, and the loop."""

from .batches import deviation
from .labels import Labels, labels_of
from .loop import train
from .options import Schedule
from .savable import check_savable
from .state import Progress, State, start
from .times import TIMES, Times
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
