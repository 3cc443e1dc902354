"""SEEDS: singlestep exponential integrators of the reverse SDE, on the noise."""

from dataclasses import dataclass
from itertools import pairwise
from math import expm1, isinf, sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import ddim, eps_of, move


@dataclass(frozen=True)
class SEEDS:
    """SEEDS-1, 2 or 3: the stages of DPM-Solver with 2 eps for eps, all on one path of noise in x / alpha.

    The inner levels are at 1/2, or at 1/3 and 2/3, of the step in lam. A stage at level m has the noise
    alpha_m w_m; w gains N(0, rho_a^2 - rho_b^2) from each level a to the next level b, rho = sigma / alpha.
    A step from alpha = 0 or to sigma = 0 is DDIM's.

    The weak order is 1 with one stage, and 2 with two or three: the third stage raises the order of the mean
    to 3, but too few values of the path enter. A point mass is not carried exactly, because eps changes with
    every draw.

    Gonzalez et al. 2023 (arXiv 2305.14267), on the noise. In their code the draws of SEEDS-3 do not belong to
    one path: at s the first two are interchanged, and at 2/3 they have the size of the draws at s.

    Args:
        stages: 1, 2 or 3, the number of network calls of a step.
    """

    stages: int = 3

    def __post_init__(self) -> None:
        if self.stages not in (1, 2, 3):
            raise ValueError(f"stages must be 1, 2 or 3, got {self.stages!r}")

    @property
    def order(self) -> int:
        return min(self.stages, 2)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        inner = [grid.between(i / self.stages) for i in range(1, self.stages)]
        for i, (t, s) in enumerate(grid.steps()):
            h, d = s.lam - t.lam, tape.denoise(x, t)
            if isinf(h):
                x = tape.state(ddim(t, s, x, d))
                continue
            levels = [t, *(row[i] for row in inner), s]
            w, path = Vector({}), []  # in x / alpha
            for a, b in pairwise(levels):
                w = w + b.sigma / b.alpha * sqrt(expm1(2 * (b.lam - a.lam))) * tape.noise()
                path.append(b.alpha * w)
            e = eps_of(t, x, d)
            if self.stages > 1:
                m = levels[1]
                u = move(t, m, x, 2 * e) + path[0]
                e1 = eps_of(m, u, tape.denoise(u, m))
            if self.stages == 3:
                k, m = 2 * h / 3, levels[2]
                u = move(t, m, x, 2 * e) - 4 * m.sigma * (expm1(k) / k - 1) * (e1 - e) + path[1]
                e2 = eps_of(m, u, tape.denoise(u, m))
                new = move(t, s, x, 2 * e) - 3 * s.sigma * (expm1(h) / h - 1) * (e2 - e)
            else:
                new = move(t, s, x, 2 * (e1 if self.stages == 2 else e))
            x = tape.state(new + path[-1])
        return x
