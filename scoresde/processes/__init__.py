"""Diffusion processes: noise levels, the SDE and its closed forms."""

from .catalogue import SDES, sde_of
from .continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from .discrete import DiscreteVPSDE
from .level import CLEAN, Level
from .sde import SDE

__all__ = [
    "CLEAN",
    "EDM",
    "SDE",
    "SDES",
    "VESDE",
    "VPSDE",
    "Cosine",
    "DiscreteVPSDE",
    "Level",
    "RectifiedFlow",
    "SubVPSDE",
    "sde_of",
]
