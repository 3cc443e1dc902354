"""Tuned solvers: a table of weights fitted to one network and one budget of calls."""

from .report import Report
from .settings import Settings
from .tune import tune

__all__ = ["Report", "Settings", "tune"]
