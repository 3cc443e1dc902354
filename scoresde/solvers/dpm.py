"""DPM-Solver and DPM-Solver++."""

from dataclasses import dataclass
from itertools import zip_longest
from math import exp, expm1, isinf, sqrt

from ..grid import Grid
from ..plan import Tape, Vector
from .common import ddim, eps_of, move
from .first_order import _check_eta


@dataclass(frozen=True)
class DPMSolver:
    """Singlestep DPM-Solver-1, 2 or 3 on the noise, h = lam_s - lam_t.

    ``order`` is the number of network calls a step; the inner levels are at 1/2, or 1/3 and 2/3, of the step
    in lam. A step from alpha = 0 or to sigma = 0 is of order 1. Lu et al. 2022 (arXiv 2206.00927, Algorithms
    1 and 2, eq. 3.7).
    """

    order: int = 2

    def __post_init__(self) -> None:
        _check_order(self.order)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        inner = zip(
            *(grid.between(r) for r in {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}[self.order]), strict=True
        )
        for (t, s), m in zip_longest(grid.steps(), inner):
            h, d = s.lam - t.lam, tape.denoise(x, t)
            if self.order == 1 or isinf(h):
                x = tape.keep(ddim(t, s, x, d))
                continue
            e = eps_of(t, x, d)
            u1 = move(t, m[0], x, e)
            e1 = eps_of(m[0], u1, tape.denoise(u1, m[0]))
            if self.order == 2:
                x = tape.keep(move(t, s, x, e1))
            else:
                k = 2 * h / 3
                u2 = move(t, m[1], x, e) - 2 * m[1].sigma * (expm1(k) / k - 1) * (e1 - e)
                e2 = eps_of(m[1], u2, tape.denoise(u2, m[1]))
                x = tape.keep(move(t, s, x, e) - 1.5 * s.sigma * (expm1(h) / h - 1) * (e2 - e))
        return x


@dataclass(frozen=True)
class DPMSolverPP:
    """Multistep DPM-Solver++(1M, 2M or 3M) on the data, and, with eta > 0, its SDE form.

    One network call a step. ``eta``: the noise is sigma_s sqrt(1 - exp(-2 eta h)) z, the exact one of the
    reverse SDE at eta = 1. ``order`` is that of the ODE form; the first steps, and one from alpha = 0 or to
    sigma = 0, are of lower order, having less to go by. Lu et al. 2022 (arXiv 2211.01095, Algorithm 2 and
    appendices). Their code's weight of the second difference in 3M is half of ours: with theirs the order is
    2, with this one 3.
    """

    order: int = 2
    eta: float = 0.0

    def __post_init__(self) -> None:
        _check_order(self.order)
        _check_eta(self.eta)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: list[tuple[float, Vector]] = []  # steps in lam, and outputs at their beginnings, latest first
        for t, s in grid.steps():
            h, d = s.lam - t.lam, tape.denoise(x, t)
            kept = s.sigma / t.sigma * (exp(-self.eta * h) if self.eta else 1.0)
            new = kept * x + (s.alpha - kept * t.alpha) * d
            k, order = (1 + self.eta) * h, min(self.order, 1 + len(past))
            if order == 2 and not isinf(h):
                new = new - s.alpha * expm1(-k) / 2 * h * _slope(d, past[0])
            elif order == 3 and not isinf(h):
                (h1, d1), (h2, _) = past
                slope, slope1 = _slope(d, past[0]), _slope(d1, past[1])
                bend = (slope - slope1) / (h1 + h2)  # half the second derivative of the data in lam
                phi = expm1(-k) / k + 1
                new = new + s.alpha * h * (phi * (slope + h1 * bend) - 2 * h * (phi / k - 0.5) * bend)
            if self.eta and s.sigma:
                new = new + s.sigma * sqrt(-expm1(-2 * self.eta * h)) * tape.noise()
            past = [] if isinf(h) else [(h, d), *past][:2]
            x = tape.keep(new)
        return x


def _slope(d: Vector, before: tuple[float, Vector]) -> Vector:
    """The data's derivative in lam, by the output before."""
    return (d - before[1]) / before[0]


def _check_order(order: int) -> None:
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, got {order!r}")
