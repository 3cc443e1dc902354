"""The spacing of a run that names none: the library's, and the one of programs."""

import math

from ..processes.sde import SDE
from .flow_time import FlowTime
from .formulas import Spacing

SCALE = 1.4  # c of the default FlowTime


def default_spacing(sde: SDE) -> Spacing:
    """The spacing where an argument ``spacing`` is None: :class:`FlowTime`, on every SDE."""
    return FlowTime(scale=SCALE)


def program_spacing(sde: SDE, solver: str) -> str:
    """The name of the spacing where a command or a benchmark gets no ``--spacing``.

    For the solver ``auto``, and for every solver if alpha = 0 at t_max, it is the library's default. For a
    solver by name it is ``karras``: the published tables and figures were made with it.

    Args:
        sde: the process.
        solver: the name of the solver, with options or without.
    """
    is_named = solver.partition(":")[0] != "auto"
    is_finite = math.isfinite(sde.lam_at(sde.t_max))
    return "karras" if is_named and is_finite else f"flow-time:scale={SCALE:g}"
