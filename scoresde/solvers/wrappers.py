"""Solvers around any other solver: an analytical first step, or noise that is raised again."""

from dataclasses import dataclass, field
from itertools import chain
from math import exp, expm1, inf, isfinite, log, log1p, sqrt

from ..denoisers.gaussian import gaussian_factor
from ..plans.tape import Solver, Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..spacings.grid import Grid
from .dpmpp import DPMSolverPP
from .moves import check_table
from .runge_kutta import Heun


@dataclass(frozen=True)
class AnalyticalFirstStep:
    """A solver whose first step is the exact flow of Gaussian data, without a network call.

    From the first level t to the second level s, x is multiplied by sqrt((alpha_s^2 C + sigma_s^2) /
    (alpha_t^2 C + sigma_t^2)); ``solver`` makes the other steps. A run of one step is a step of ``solver``.
    ``SOLVERS`` does not hold it, because its variance depends on the data. Use it only when both of the
    following hold:

    1. The run has few steps; the order of convergence is 1.
    2. At the second level sigma / alpha is at least 10 times the deviation of the data.

    Its first-order form, x + (s - t) x / t, is the analytical first step of Dockhorn et al. 2022 (arXiv
    2210.05475).

    Args:
        solver: any solver that is a table.
        variance: C, the variance of each number of the data, whose mean is 0; finite, at least 0.
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
        x = tape.state(gaussian_factor(grid.levels[0], grid.levels[1], self.variance) * x)
        return self.solver.solve(tape, x, Grid(grid.sde, grid.levels[1:]))


@dataclass(frozen=True)
class Churn:
    """Before each step of a solver, noise is added: from rho = sigma / alpha to (1 + gamma) rho.

    x / alpha gains sqrt((1 + gamma)^2 - 1) rho S_noise z, and the step starts at the raised level. gamma =
    min(S_churn / N, sqrt(2) - 1) in a run of N steps if S_min <= rho <= S_max, else 0. The order is the
    order of ``solver`` if it is singlestep. A multistep solver has order 1 here, because each step has no
    history.

    Karras et al. 2022 (arXiv 2206.00364, Algorithm 2), for any alpha and sigma. Their first steps raise
    levels beyond t_max of the SDE, which the network does not know; here no level is raised beyond t_max.

    Args:
        solver: a singlestep solver that is a table.
        s_churn: at least 0.
        s_min: at least 0, at most ``s_max``.
        s_max: the largest sigma / alpha at which noise is added.
        s_noise: positive. At 1 the run has the right law.
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
        # Steps down and up in turn, as one grid: the rates of all levels are then computed at once.
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
    """A run that goes back: at rho_min noise is added up to rho_max, and the solver steps down again.

    x / alpha gains sqrt(rho_max^2 - rho_min^2) S_noise z, then the solver steps over the interval; this is
    repeated ``repeats`` times. rho_min is replaced by the nearest level of the run between rho_max and sigma
    = 0; without such a level the interval is left out. rho_max is at most the rho of t_max of the SDE. The
    steps of an interval are equal in rho^(1/7), as in the spacing ``karras``. The order is the order of the
    solver if the steps of the run and of the intervals are refined together, as the default refines them; it
    is at most 2 for a multistep solver with a first step of order 1.

    Xu et al. 2023 (arXiv 2306.14878, Algorithm 2), with Heun's method and alpha = 1. Their N_Restart is
    steps + 1, the number of levels of an interval. Their intervals are for budgets of 40 and more calls:
    ``intervals=[[0.06,0.3,4,2]]`` takes 16 calls of Heun's method, whatever the budget.

    Args:
        solver: any solver that is a table. The history of a multistep one begins again at every turn.
        intervals: (rho_min, rho_max, steps, repeats) of each interval, in rho = sigma / alpha; the noisiest
            first, not overlapping. None: one interval by the length of the run, :func:`interval_of`.
        s_noise: positive. At 1 the run has the right law.
    """

    solver: Solver = field(default_factory=lambda: DPMSolverPP(2))
    intervals: tuple[tuple[float, float, int, int], ...] | None = None
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        check_table(self.solver)
        _check_noise(self.s_noise)
        above = inf
        for interval in self.intervals or ():
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
        if (intervals := self.intervals) is None:
            intervals = (interval_of(len(left) - 1),)
        for low, high, steps, repeats in intervals:
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


def interval_of(steps: int) -> tuple[float, float, int, int]:
    """The interval of a run of so many steps: 0.05 to 0.5 in a third of the steps, twice from 9 steps on.

    It has at least 2 steps. Its ends are for data of a deviation of about 1/2. Of the rules that were tried
    on mixtures of normal distributions, this one was the best with 20 and 50 calls, and near it with 5 to 15.
    """
    return 0.05, 0.5, max(2, -(-steps // 3)), 2 if steps >= 9 else 1


def _interval(grid: Grid, top: float, end: Level[float], steps: int) -> Grid:
    """Levels from half log-SNR ``top`` to ``end``, even in rho^(1/7)."""
    first, last = exp(-top / 7), exp(-end.lam / 7)
    lams = [-7 * log(first + i / steps * (last - first)) for i in range(steps)]
    return Grid(grid.sde, (*grid.at(lams), end))


def _noised(t: Level[float], up: Level[float], x: Vector, z: Vector) -> Vector:
    """The forward transition of the process from t to the noisier level ``up``, with noise z."""
    added = max(0.0, -expm1(2 * (up.lam - t.lam)))  # the part of the variance; max for rounding
    return up.alpha / t.alpha * x + up.sigma * sqrt(added) * z


def _check_noise(s_noise: float) -> None:
    if not s_noise > 0:
        raise ValueError(f"s_noise must be positive, got {s_noise!r}")
