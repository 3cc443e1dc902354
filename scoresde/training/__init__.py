"""Denoising score matching: weightings, the sampling of times, and the loop."""

from .times import TIMES, Times
from .trainer import Progress, Schedule, State, start, train
from .weighting import WEIGHTINGS, Weighting

__all__ = ["TIMES", "WEIGHTINGS", "Progress", "Schedule", "State", "Times", "Weighting", "start", "train"]
