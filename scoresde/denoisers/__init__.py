"""Estimates of the data: from a network, in closed form, and wrappers of these."""

from .gaussian import NormalFlow
from .mixture import ExactDenoiser, Mixture
from .network import Denoiser
from .protocol import Counted, Denoises
from .transported import Transported

__all__ = ["Counted", "Denoiser", "Denoises", "ExactDenoiser", "Mixture", "NormalFlow", "Transported"]
