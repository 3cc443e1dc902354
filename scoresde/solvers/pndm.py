"""Adams-Bashforth methods on the noise with the weights of equal steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import ddim, eps_of, materialized, move
from .runge_kutta import inside, rk4

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class PNDM:
    """Three Runge-Kutta steps, then Adams-Bashforth of four points, all as moves along constant noise.

    x_s is x moved along (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24, the noise at t and at the three levels
    before. Each of the first three steps is four network calls, each other step one. A step from alpha = 0 or
    to sigma = 0 is of order 1 and one call, and clears the history.

    The order is 2 on any spacing by formula. The weights are right for equal steps in the variable in which
    the spacing is uniform; the move is linear in sigma / alpha; both agree to second order. It is 4 where
    the spacing is uniform in sigma / alpha (``karras:rho=1``), and 1 on listed times whose steps do not
    become equal.

    Liu et al. 2022 (arXiv 2202.09778, Algorithm 2). Their half step is the middle in t; here it is the middle
    in sigma / alpha, which gives the Runge-Kutta steps order 4.
    """

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: list[Vector] = []
        for (t, s), m in zip(grid.steps(), inside(grid, 1 / 2), strict=True):
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                x = tape.state(ddim(t, s, x, d))
                continue
            past = [materialized(tape, eps_of(t, x, d)), *past][:4]
            x = tape.state(rk4(tape, t, m, s, x, past[0]) if len(past) < 4 else move(t, s, x, adams(past)))
        return x


@dataclass(frozen=True)
class IPNDM:
    """Adams-Bashforth of up to four points as moves along constant noise, from the first step on.

    The weights are 1, (3, -1) / 2, (23, -16, 5) / 12 and (55, -59, 37, -9) / 24, latest noise first. One
    network call a step. Order 1 at one point, which is DDIM; order 2 at more points, see :class:`PNDM`. A
    step from alpha = 0 or to sigma = 0 is of order 1 and clears the history. Zhang and Chen 2022 (arXiv
    2204.13902, iPNDM).

    Args:
        points: 1 to 4, the number of values of the noise that a step uses; the first steps use fewer.
    """

    points: int = 4

    def __post_init__(self) -> None:
        if self.points not in (1, 2, 3, 4):
            raise ValueError(f"points must be 1, 2, 3 or 4, got {self.points!r}")

    @property
    def order(self) -> int:
        return min(self.points, 2)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: list[Vector] = []
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                x = tape.state(ddim(t, s, x, d))
                continue
            past = [materialized(tape, eps_of(t, x, d)), *past][: self.points]
            x = tape.state(move(t, s, x, adams(past)))
        return x


def adams(past: Sequence[Vector]) -> Vector:
    """The mean noise over the next step, from values at equal distances before it, latest first."""
    first, *rest = (weight * e for weight, e in zip(ADAMS_BASHFORTH[len(past) - 1], past, strict=True))
    return sum(rest, first)
