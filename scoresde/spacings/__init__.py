"""Where the noise levels of a run lie."""

from .catalogue import SPACINGS, spacing_of
from .composed import Clipped, Joined, Refined, Shifted, Under
from .default import default_spacing, program_spacing
from .flow_time import FlowTime
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
from .measured import AtShares, Measured

__all__ = [
    "SPACINGS",
    "AlignYourSteps",
    "AtLambdas",
    "AtShares",
    "AtSigmas",
    "AtTimes",
    "Beta",
    "Clipped",
    "FlowTime",
    "Grid",
    "Joined",
    "Karras",
    "Measured",
    "Polyexponential",
    "PowerTime",
    "QuadraticTime",
    "Refined",
    "Shifted",
    "Spacing",
    "Under",
    "UniformLambda",
    "UniformSigma",
    "UniformTime",
    "default_spacing",
    "program_spacing",
    "spacing_of",
]
