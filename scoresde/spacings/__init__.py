"""Where the noise levels of a run lie."""

from .catalogue import SPACINGS, spacing_of
from .composed import Clipped, Joined, Refined, Shifted
from .default import default_spacing, program_spacing
from .formulas import (
    Beta,
    Karras,
    Polyexponential,
    PowerTime,
    QuadraticTime,
    Spacing,
    UniformLambda,
    UniformSigma,
    UniformTime,
)
from .grid import Grid
from .lists import AlignYourSteps, AtLambdas, AtSigmas, AtTimes

__all__ = [
    "SPACINGS",
    "AlignYourSteps",
    "AtLambdas",
    "AtSigmas",
    "AtTimes",
    "Beta",
    "Clipped",
    "Grid",
    "Joined",
    "Karras",
    "Polyexponential",
    "PowerTime",
    "QuadraticTime",
    "Refined",
    "Shifted",
    "Spacing",
    "UniformLambda",
    "UniformSigma",
    "UniformTime",
    "default_spacing",
    "program_spacing",
    "spacing_of",
]
