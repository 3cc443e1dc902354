"""Solvers around any other: they begin without the network, or raise the noise again."""

from dataclasses import dataclass, field
from itertools import chain
from math import exp, expm1, inf, isfinite, log, log1p, sqrt

from ..plans.tape import Solver, Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..spacings.grid import Grid
from .dpmpp import DPMSolverPP
from .moves import check_table
from .runge_kutta import Heun


def free_step(start: Level[float], level: Level[float], variance: float) -> float:
    """What x at ``start`` is multiplied by to be x at ``level``, by the probability flow of normal data.

    sqrt((alpha^2 C + sigma^2) / (alpha_T^2 C + sigma_T^2)), for data of mean 0 and ``variance`` C.
    """
    here, there = ((at.alpha**2 * variance + at.sigma**2) for at in (start, level))
    return sqrt(there / here)


@dataclass(frozen=True)
class AnalyticalFirstStep:
    """A solver whose first step is free: it takes the data for normal, and calls no network.

    x is multiplied by :func:`free_step` from the first level to the second, and ``solver`` goes on from
    there; a run of one step is the solver's own. ``variance`` is the data's, for each number, its mean being
    0. For few steps, whose second level has a sigma / alpha of 10 times the data's deviation or more; with
    more of them it is of order 1. It has no name of its own, as it must be told the variance. The first-order
    form, x + (s - t) x / t, is the analytical first step of Dockhorn et al. 2022 (arXiv 2210.05475).
    """

    solver: Solver = field(default_factory=lambda: DPMSolverPP(2))
    variance: float = 0.25

    def __post_init__(self) -> None:
        check_table(self.solver)
        if not 0 <= self.variance < inf:
            raise ValueError(f"variance must be finite and at least 0, got {self.variance!r}")

    @property
    def order(self) -> int:
        return min(1, self.solver.order)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        if len(grid.levels) < 3:
            return self.solver.solve(tape, x, grid)
        x = tape.state(free_step(grid.levels[0], grid.levels[1], self.variance) * x)
        return self.solver.solve(tape, x, Grid(grid.sde, grid.levels[1:]))


@dataclass(frozen=True)
class Churn:
    """Before each step of a solver, noise is added: from rho = sigma / alpha to (1 + gamma) rho.

    x / alpha gains sqrt((1 + gamma)^2 - 1) rho S_noise z, and the step, its first network call included,
    starts at the raised level. gamma = min(S_churn / N, sqrt(2) - 1) in a run of N steps where S_min <= rho
    <= S_max, else 0. ``solver`` is a singlestep one, and the order is its own; a multistep one is of order 1
    here, each step being a run for itself. ``s_churn`` is at least 0, 0 <= ``s_min`` <= ``s_max``, and
    ``s_noise`` positive: at 1 the added noise is the process's own, and the run has the right law. Karras et
    al. 2022 (arXiv 2206.00364, Algorithm 2), for any alpha and sigma. We raise no level beyond the SDE's
    t_max, which the network does not know; they do, in their first steps.
    """

    solver: Solver = field(default_factory=Heun)
    s_churn: float = 10.0
    s_min: float = 0.0
    s_max: float = inf
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        check_table(self.solver)
        _check_noise(self.s_noise)
        if not self.s_churn >= 0:
            raise ValueError(f"s_churn must not be negative, got {self.s_churn!r}")
        if not 0 <= self.s_min <= self.s_max:
            raise ValueError(f"s_min <= s_max must not be negative, got {self.s_min!r} and {self.s_max!r}")

    @property
    def order(self) -> int:
        return self.solver.order

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        rise = log1p(min(self.s_churn / (len(grid.levels) - 1), sqrt(2) - 1))
        highest = grid.sde.lam_at(grid.sde.t_max)
        lams = [max(t.lam - rise, highest) if self._churns(t) else t.lam for t, _ in grid.steps()]
        raised = [
            up if lam < t.lam else t
            for t, lam, up in zip(
                grid.levels, lams, grid.at([lam if isfinite(lam) else 0.0 for lam in lams]), strict=False
            )
        ]
        # Steps down and up in turn, as one grid, whose rates are one look-up.
        turns = tuple(chain.from_iterable(zip(raised, grid.levels[1:], strict=True)))
        steps = list(Grid(grid.sde, turns).singly())[::2]
        for t, step in zip(grid.levels, steps, strict=False):
            if step.levels[0] != t:
                x = tape.state(_noised(t, step.levels[0], x, self.s_noise * tape.noise()))
            x = self.solver.solve(tape, x, step)
        return x

    def _churns(self, t: Level[float]) -> bool:
        return t.alpha > 0 and self.s_min <= t.sigma / t.alpha <= self.s_max


@dataclass(frozen=True)
class Restart:
    """A solver's run that goes back: at rho_min noise is added up to rho_max, and the way down taken again.

    x / alpha + sqrt(rho_max^2 - rho_min^2) S_noise z, then the solver over the interval, ``repeats`` times,
    then on. ``intervals``: (rho_min, rho_max, steps, repeats) each, in rho = sigma / alpha, noisiest first,
    not overlapping; the steps are even in rho^(1/7), Karras's spacing. For rho_min stands the run's nearest
    level between rho_max and sigma = 0, if there is any; rho_max is at most that of the SDE's t_max.
    ``s_noise`` is positive, and 1 for the right law. ``solver``: any; a multistep one begins anew at every
    turn. The order is the solver's, in the steps of the run and those of the intervals together. Xu et al.
    2023 (arXiv 2306.14878, Algorithm 2), there with Heun's method on alpha = 1, and N_Restart = steps + 1
    levels to an interval.
    """

    solver: Solver = field(default_factory=Heun)
    intervals: tuple[tuple[float, float, int, int], ...] = ((0.06, 0.3, 4, 2),)
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        check_table(self.solver)
        _check_noise(self.s_noise)
        above = inf
        for interval in self.intervals:
            if len(interval) != 4 or not 0 < interval[0] < interval[1] <= above:
                raise ValueError(
                    "intervals must be (rho_min, rho_max, steps, repeats), 0 < rho_min < rho_max, noisiest "
                    f"first and not overlapping, got {interval} in {self.intervals}"
                )
            if interval[2] < 1 or interval[3] < 0:
                raise ValueError(
                    f"intervals must have at least 1 step and no negative repeats, got {interval}"
                )
            above = interval[0]

    @property
    def order(self) -> int:
        return self.solver.order

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        left = grid.levels
        for low, high, steps, repeats in self.intervals:
            top = max(-log(high), grid.sde.lam_at(grid.sde.t_max))
            below = [i for i, level in enumerate(left) if i and top < level.lam < inf]
            if not below:
                continue
            end = min(below, key=lambda i: abs(left[i].lam + log(low)))
            x = self.solver.solve(tape, x, Grid(grid.sde, left[: end + 1]))
            left = left[end:]
            again = _interval(grid, top, left[0], steps)
            for _ in range(repeats):
                x = tape.state(_noised(left[0], again.levels[0], x, self.s_noise * tape.noise()))
                x = self.solver.solve(tape, x, again)
        return self.solver.solve(tape, x, Grid(grid.sde, left)) if len(left) > 1 else x


def _interval(grid: Grid, top: float, end: Level[float], steps: int) -> Grid:
    """Levels from half log-SNR ``top`` to ``end``, even in rho^(1/7)."""
    first, last = exp(-top / 7), exp(-end.lam / 7)
    lams = [-7 * log(first + i / steps * (last - first)) for i in range(steps)]
    return Grid(grid.sde, (*grid.at(lams), end))


def _noised(t: Level[float], up: Level[float], x: Vector, z: Vector) -> Vector:
    """x as the process itself carries it from t to the noisier level ``up``."""
    added = max(0.0, -expm1(2 * (up.lam - t.lam)))  # of the variance at ``up``; roundings
    return up.alpha / t.alpha * x + up.sigma * sqrt(added) * z


def _check_noise(s_noise: float) -> None:
    if not s_noise > 0:
        raise ValueError(f"s_noise must be positive, got {s_noise!r}")
