"""The probability-flow ODE of any process as a rectified flow, in a variable of choice.

The state is y = x / (alpha + sigma), and u = sigma / (alpha + sigma) is its place on the way from data to
noise. By the network's estimates of data and noise, y = (1 - u) x_0 + u eps; so the slope is dy / du =
eps - x_0 = (y - x_0) / u. It is finite at u = 1, where alpha = 0.
"""

from collections.abc import Callable
from math import exp, inf, log, log1p, sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...plans.executor import Denoise
from ...processes.level import Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing, between_ends, ramp
from ...spacings.grid import Grid


class Variable(NamedTuple):
    """A variable v of the ODE, which rises from noise to data: dy / dv = rate(u) (x_0 - y)."""

    of: Callable[[float], float]  # v, by u
    u: Callable[[float], float]  # u, by v
    rate: Callable[[float], float]  # -du / dv / u, by u


# u, falling. An Euler step is DDIM's, and a point mass, whose path is a line in u, is carried exactly.
LINE = Variable(lambda u: -u, lambda v: -v, lambda u: 1 / u)
# Best for equal steps, and for steps by their error: few in pure noise, more where the data is nearly clean.
ROOT = Variable(lambda u: -sqrt(u), lambda v: v * v, lambda u: 2 / sqrt(u))
# The half log-SNR, lambda.
LOG = Variable(lambda u: log1p(-u) - log(u) if u < 1 else -inf, lambda v: 1 / (1 + exp(v)), lambda u: 1 - u)


def unit(level: Level[float]) -> float:
    """alpha + sigma, the unit of the state."""
    return level.alpha + level.sigma


def place(level: Level[float]) -> float:
    """u of a level."""
    return level.sigma / unit(level)


def flow_points(grid: Grid, variable: Variable) -> list[float]:
    """The variable at the levels of a grid."""
    return [variable.of(place(level)) for level in grid.levels]


def flow_slope(grid: Grid, denoise: Denoise, variable: Variable) -> Callable[[float, Any], Any]:
    """dy / dv on the probability-flow ODE, between the ends of a grid."""
    first, *_, last = points = flow_points(grid, variable)
    known = dict(zip(points, grid.levels, strict=True))

    def slope(v: float, y: Any) -> Any:
        v = min(max(v, first), last)  # the first attempt of an adaptive step may look beyond the end
        level = known.get(v) or grid.at([LOG.of(variable.u(v))])[0]
        return variable.rate(place(level)) * (denoise(unit(level) * y, level) - y)

    return slope


def even_steps(variable: Variable) -> Spacing:
    """The spacing of equal steps in a variable that is finite at both ends of the process."""

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = (variable.of(place(sde.level_at(t))) for t in (sde.t_max, sde.t_min))
        lams = [LOG.of(variable.u(v)) for v in ramp(first, last, n).tolist()]
        return between_ends(sde, sde.time_of(torch.tensor(lams, dtype=torch.float64)))

    return spacing
