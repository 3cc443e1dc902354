"""Everything that is fitted to one network: tuned tables, levels (GITS), statistics (DPM-Solver-v3)."""

from .gits import GITS, gits
from .measure_statistics import model_statistics
from .measured_levels import measured
from .report import Report
from .settings import Settings
from .tune import tune

__all__ = ["GITS", "Report", "Settings", "gits", "measured", "model_statistics", "tune"]
