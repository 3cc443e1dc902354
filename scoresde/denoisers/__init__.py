"""Estimates of the data: from a network, in closed form, and wrappers of these."""

from .exact import ExactDenoiser, ExactPosterior
from .full_mixture import FullMixture
from .gaussian import GaussianFlow
from .mixture import Mixture
from .network import Denoiser
from .protocol import Counted, DenoiserLike, Watched, Wrapper, as_denoiser
from .transported import Transported

__all__ = [
    "Counted",
    "Denoiser",
    "DenoiserLike",
    "ExactDenoiser",
    "ExactPosterior",
    "FullMixture",
    "GaussianFlow",
    "Mixture",
    "Transported",
    "Watched",
    "Wrapper",
    "as_denoiser",
]
