"""The probability-flow ODE as a function of u = -sigma / alpha or of lambda."""

import math
from collections.abc import Callable
from typing import Any

from ...plans.executor import Denoise
from ...spacings.grid import Grid


def flow_points(grid: Grid, in_lam: bool = False) -> list[float]:
    """u = -sigma / alpha, which rises, or lam, at the levels of a grid."""
    return [level.lam if in_lam else -level.sigma / level.alpha for level in grid.levels]


def flow_slope(grid: Grid, denoise: Denoise, in_lam: bool = False) -> Callable[[float, Any], Any]:
    """dy / du on the probability-flow ODE, y = x / alpha, in u = -sigma / alpha or in lam."""
    first, *_, last = points = flow_points(grid, in_lam)
    known = dict(zip(points, grid.levels, strict=True))

    def slope(u: float, y: Any) -> Any:
        u = min(max(u, first), last)  # the first attempt of an adaptive step may look beyond the end
        level = known.get(u) or grid.at([u if in_lam else -math.log(-u)])[0]
        rate = 1.0 if in_lam else level.alpha / level.sigma  # dlam / du
        return (denoise(level.alpha * y, level) - y) * rate

    return slope
