"""Conditions as denoisers around denoisers: guidance, posteriors of observations, and what they cost."""

from .classified import Classified
from .composed import Composed
from .cost import Cost, cost_at, cost_of
from .covariances import Gaussian, Isotropic, Jacobian, ScoreForm, of_prior
from .given import Given
from .guidance import Guided, guided, mixed
from .linear import Linear, from_deepinv
from .observed import Observed
from .operators import Blur, Grey, Known, Matrix, Operator, Pool
from .peers import ddnm, diffpir, dps, mmps, pigdm
from .posterior import Posterior
from .rules import Projected, Rescaled
from .thresholding import Thresholded
from .weights import Interval

__all__ = [
    "Blur",
    "Classified",
    "Composed",
    "Cost",
    "Gaussian",
    "Given",
    "Grey",
    "Guided",
    "Interval",
    "Isotropic",
    "Jacobian",
    "Known",
    "Linear",
    "Matrix",
    "Observed",
    "Operator",
    "Pool",
    "Posterior",
    "Projected",
    "Rescaled",
    "ScoreForm",
    "Thresholded",
    "cost_at",
    "cost_of",
    "ddnm",
    "diffpir",
    "dps",
    "from_deepinv",
    "guided",
    "mixed",
    "mmps",
    "of_prior",
    "pigdm",
]
