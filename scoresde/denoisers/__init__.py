"""Estimates of the data: from a network, in closed form, and wrappers of these."""

from .gaussian import GaussianFlow
from .mixture import ExactDenoiser, Mixture
from .network import Denoiser
from .protocol import Counted, DenoiserLike, Watched, Wrapper, as_denoiser
from .transported import Transported

__all__ = [
    "Counted",
    "Denoiser",
    "DenoiserLike",
    "ExactDenoiser",
    "GaussianFlow",
    "Mixture",
    "Transported",
    "Watched",
    "Wrapper",
    "as_denoiser",
]
