"""The trapezoid rule."""

from dataclasses import dataclass

from ..grid import Grid
from ..plan import Tape, Vector
from .common import ddim, eps_of, move


@dataclass(frozen=True)
class Heun:
    """The trapezoid rule in sigma / alpha: an Euler step, then the mean of the noise at both its ends.

    Order 2, two network calls a step; one from alpha = 0 or to sigma = 0, where the step is Euler's. Karras
    et al. 2022 (arXiv 2206.00364, Algorithm 1), for any alpha and sigma.
    """

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            guess = ddim(t, s, x, d)
            if s.sigma == 0 or t.alpha == 0:
                x = tape.keep(guess)
                continue
            eps = (eps_of(t, x, d) + eps_of(s, guess, tape.denoise(guess, s))) / 2
            x = tape.keep(move(t, s, x, eps))
        return x
