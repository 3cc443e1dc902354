"""Where the noise levels of a run lie."""

from .catalogue import (
    SPACINGS,
    align_your_steps,
    clipped,
    joined,
    listed,
    listed_lams,
    listed_sigmas,
    refined,
    shifted,
    spacing_of,
)
from .formulas import (
    Spacing,
    beta,
    default_spacing,
    karras,
    polyexponential,
    power_time,
    quadratic_time,
    uniform_lam,
    uniform_sigma,
    uniform_time,
)
from .grid import Grid

__all__ = [
    "SPACINGS",
    "Grid",
    "Spacing",
    "align_your_steps",
    "beta",
    "clipped",
    "default_spacing",
    "joined",
    "karras",
    "listed",
    "listed_lams",
    "listed_sigmas",
    "polyexponential",
    "power_time",
    "quadratic_time",
    "refined",
    "shifted",
    "spacing_of",
    "uniform_lam",
    "uniform_sigma",
    "uniform_time",
]
