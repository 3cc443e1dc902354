"""Processes by name."""

from ..registry import build
from .continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from .discrete import DiscreteVPSDE
from .sde import SDE

SDES: dict[str, type[SDE]] = {
    "vp": VPSDE,
    "sub-vp": SubVPSDE,
    "ve": VESDE,
    "cosine": Cosine,
    "edm": EDM,
    "rectified-flow": RectifiedFlow,
    "ddpm": DiscreteVPSDE,
}


def sde_of(spec: SDE | str) -> SDE:
    """A process as it is, or by name, with options if wanted: ``"vp"``, ``"edm:t_max=20.0"``.

    Raises:
        TypeError: neither a process nor a name; a class (``VPSDE`` in place of ``VPSDE()``).
        ValueError: an unknown name or option, or a value that the process refuses.
    """
    sde = build("SDE", SDES, spec)
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be an SDE or its name, got {type(sde).__name__}")
    return sde
