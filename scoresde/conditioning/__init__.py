"""Conditions: denoisers around a denoiser, which each solver serves like any other."""

from .cost import Cost, cost_at, cost_of
from .covariances import Gaussian, Isotropic, Jacobian, ScoreForm, of_prior
from .linear import Linear, from_deepinv
from .observed import Observed
from .operators import Blur, Grey, Known, Matrix, Pool
from .peers import ddnm, diffpir, dps, mmps, pigdm
from .posterior import Posterior

__all__ = [
    "Blur",
    "Cost",
    "Gaussian",
    "Grey",
    "Isotropic",
    "Jacobian",
    "Known",
    "Linear",
    "Matrix",
    "Observed",
    "Pool",
    "Posterior",
    "ScoreForm",
    "cost_at",
    "cost_of",
    "ddnm",
    "diffpir",
    "dps",
    "from_deepinv",
    "mmps",
    "of_prior",
    "pigdm",
]
