"""Singlestep DPM-Solver and DPM-Solver++."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, groupby, zip_longest
from math import isinf
from operator import attrgetter

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..spacings.grid import Grid
from .moves import are_even, ddim, eps_of
from .runge_kutta import check_ratio, phi


@dataclass(frozen=True)
class DPMSolver:
    """Singlestep DPM-Solver on the noise, or DPM-Solver++ on the data, of order 1, 2 or 3.

    With m the noise, x_s = (alpha_s / alpha_t) x - sigma_s z (phi_1(z) m + phi_2(z) h m' + phi_3(z) h^2 m''),
    z = h = lam_s - lam_t. With m the data, x_s = (sigma_s / sigma_t) x - alpha_s z (the same), z = -h. The
    derivatives in lambda at t are replaced by differences to inner levels; steps of lower order lead to these
    levels.

    Lu et al. 2022 (arXiv 2206.00927, Algorithms 1 and 2, eq. 3.7; arXiv 2211.01095, Algorithm 1 for 2S on the
    data). Their code takes any two inner levels at order 3; if the second one is not at 2/3 the order is 2.

    Args:
        order: 1, 2 or 3: the order of convergence, and the network calls of a step. A step from alpha = 0 or
            to sigma = 0 is of order 1.
        ratio: in (0, 1). At order 2 the inner level is this fraction of the step in lambda. At order 3 the
            second inner level is at 2/3, and the first one at this fraction of the way to it.
        form: ``"taylor"``: the sum above up to the derivative of ``order`` - 1. ``"standard"``: at order 2 it
            has phi_1 / 2 for phi_2; at order 3 it ends with m', and the level 2/3 makes up for m''.
        prediction: the quantity m, ``"noise"`` or ``"data"``, whatever the network itself predicts.
    """

    order: int = 2
    ratio: float = 1 / 2
    form: str = "standard"
    prediction: str = "noise"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, got {self.order!r}")
        check_ratio(self.ratio)
        if self.form not in ("standard", "taylor"):
            raise ValueError(f"form must be 'standard' or 'taylor', got {self.form!r}")
        if self.prediction not in ("noise", "data"):
            raise ValueError(f"prediction must be 'noise' or 'data', got {self.prediction!r}")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        r = self.ratio * (2 / 3 if self.order == 3 else 1)  # of the first inner level
        inner = zip(*(grid.between(c) for c in (r, 2 / 3)[: self.order - 1]), strict=True)
        of, size, sign = _NOISE if self.prediction == "noise" else _DATA
        for (t, s), m in zip_longest(grid.steps(), inner):
            d, z = tape.denoise(x, t), sign * (s.lam - t.lam)
            new = ddim(t, s, x, d)  # the step of order 1
            if self.order == 1 or isinf(z):
                x = tape.state(new)
                continue
            u = ddim(t, m[0], x, d)
            slope = (of(m[0], u, tape.denoise(u, m[0])) - of(t, x, d)) / r
            if self.order == 2:
                change = (phi(1, z) / 2 if self.form == "standard" else phi(2, z)) * slope
            else:
                k = 2 / 3 * z
                u = ddim(t, m[1], x, d) - size(m[1]) * k * phi(2, k) * 2 / 3 * slope
                slope2 = (of(m[1], u, tape.denoise(u, m[1])) - of(t, x, d)) / (2 / 3)
                if self.form == "standard":
                    change = phi(2, z) * slope2
                else:
                    bend = (slope2 - slope) / (2 / 3 - r)  # half the second derivative
                    change = phi(2, z) * (slope - r * bend) + 2 * phi(3, z) * bend
            x = tape.state(new - size(s) * z * change)
        return x


@dataclass(frozen=True)
class DPMFast:
    """As many steps of DPM-Solver-3 as the budget allows; DPM-Solver-2 and 1 use the rest of it.

    A grid of n steps is n network calls. The orders of the steps are 3, ..., 3, and at the end 2 and 1, or 1,
    or 2; a step from alpha = 0 or to sigma = 0 comes on top, of order 1. On a grid of equal steps in lambda
    the steps of the method are equal in lambda, too. On any other grid a step of order k covers k steps of
    the grid. The order of convergence is 2, set by the last step; where a run ends nearly clean, 2.7 is
    measured, because the last step changes little.

    Lu et al. 2022 (arXiv 2206.00927, DPM-Solver-fast; arXiv 2211.01095), with the steps of their code: the
    first rule is that of its spacing logSNR, the second one that of its other spacings. The method of the
    first paper has ``prediction="noise", form="standard"``; the errors of the default are smaller.

    Args:
        prediction: as in :class:`DPMSolver`.
        form: as in :class:`DPMSolver`.
    """

    prediction: str = "data"
    form: str = "taylor"
    order = 2

    def __post_init__(self) -> None:
        DPMSolver(form=self.form, prediction=self.prediction)  # checks both

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        first, last = (isinf(grid.levels[i].lam) for i in (0, -1))
        n = len(grid.levels) - 1 - first - last
        inner = [3] * ((n - 1) // 3) + {0: [2, 1], 1: [1], 2: [2]}[n % 3] if n else []
        orders = [1] * first + inner + [1] * last
        levels = [grid.levels[i] for i in accumulate(orders, initial=0)]
        lams, k = [level.lam for level in grid.levels[first : first + n + 1]], len(inner)
        if n and are_even(lams):
            way = [lams[0] + i / k * (lams[-1] - lams[0]) for i in range(1, k)]
            levels[first + 1 : first + k] = grid.at(way)
        at = 0
        for order, steps in groupby(orders):
            end = at + len(list(steps))
            part = Grid(grid.sde, tuple(levels[at : end + 1]))
            x, at = DPMSolver(order, form=self.form, prediction=self.prediction).solve(tape, x, part), end
        return x


def _data_of(t: Level[float], x: Vector, d: Vector) -> Vector:
    return d


# The quantity m, the factor on its integral, and the sign of z.
_Side = tuple[Callable[[Level[float], Vector, Vector], Vector], Callable[[Level[float]], float], int]
_NOISE: _Side = eps_of, attrgetter("sigma"), 1
_DATA: _Side = _data_of, attrgetter("alpha"), -1
