"""Conditions as denoisers around denoisers: guidance, and what a condition costs."""

from .classified import Classified
from .composed import Composed
from .cost import Cost, cost_at
from .given import Given
from .guidance import Guided, guided, mixed
from .rules import Projected, Rescaled
from .thresholding import Thresholded
from .weights import Interval

__all__ = [
    "Classified",
    "Composed",
    "Cost",
    "Given",
    "Guided",
    "Interval",
    "Projected",
    "Rescaled",
    "Thresholded",
    "cost_at",
    "guided",
    "mixed",
]
