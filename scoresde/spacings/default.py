"""The spacing of a run that names none: the library's, and the one of programs."""

import math

from ..processes.sde import SDE
from .formulas import Spacing, UniformLambda, UniformTime


def default_spacing(sde: SDE) -> Spacing:
    """Equal steps in the half log-SNR; equal steps in t if alpha = 0 at t_max, where lambda is infinite.

    The library uses it wherever an argument ``spacing`` is None.
    """
    return UniformLambda() if math.isfinite(sde.lam_at(sde.t_max)) else UniformTime()


def program_spacing(sde: SDE) -> str:
    """The name of the spacing ``karras``; if alpha = 0 at t_max, ``uniform-t``.

    The command line and the benchmarks use it where no ``--spacing`` is given. It differs from the library's
    default because the published tables and figures were made with it.
    """
    return "karras" if math.isfinite(sde.lam_at(sde.t_max)) else "uniform-t"
