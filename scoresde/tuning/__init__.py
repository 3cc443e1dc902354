"""Tuned solvers: a table of weights fitted to one network and one budget of calls."""

from .report import Report
from .tune import Settings, tune

__all__ = ["Report", "Settings", "tune"]
