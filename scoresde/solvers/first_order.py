"""Solvers of order 1."""

from dataclasses import dataclass
from math import sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import check_eta, ddim, eps_of, score_of


@dataclass(frozen=True)
class EulerMaruyama:
    """Euler-Maruyama in t on the reverse SDE, dx = (f x - (1 + eta^2) / 2 g^2 score) dt + eta g dw.

    ``eta`` scales the noise: 1 is the reverse SDE, 0 Euler on the probability-flow ODE. Weak order 1. A step
    to sigma = 0 is the denoiser itself. Song et al. 2021 (arXiv 2011.13456, eq. 6 and appendix G); their code
    steps 1 / N on a grid of spacing (T - eps) / (N - 1), we step what the grid says.
    """

    eta: float = 1.0
    order = 1

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for (t, s), (f, g2) in zip(grid.steps(), grid.rates, strict=True):
            d = tape.denoise(x, t)
            if s.sigma == 0:
                return tape.state(ddim(t, s, x, d))
            drift = f * x - (1 + self.eta**2) / 2 * g2 * score_of(t, x, d)
            x = x + (s.t - t.t) * drift
            x = tape.state(x + self.eta * sqrt((t.t - s.t) * g2) * tape.noise() if self.eta else x)
        return x


@dataclass(frozen=True)
class ReverseDiffusion:
    """The forward step's drift and noise, run backwards: x_s = (2 - a) x + G^2 score + G z.

    a = alpha_t / alpha_s and G^2 = sigma_t^2 - a^2 sigma_s^2 are those of the exact forward transition from s
    to t. Weak order 1. A step to sigma = 0 is the denoiser itself. Song et al. 2021 (arXiv 2011.13456, eq.
    46); for the sub-VP SDE their code falls back to Euler, ours does not need to.
    """

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            if s.sigma == 0:
                return tape.state(ddim(t, s, x, d))
            a = t.alpha / s.alpha
            g2 = t.sigma**2 - (a * s.sigma) ** 2
            x = tape.state((2 - a) * x + g2 * score_of(t, x, d) + sqrt(g2) * tape.noise())
        return x


@dataclass(frozen=True)
class DDIM:
    """x_s = alpha_s d + sqrt(sigma_s^2 - c^2) eps + c z.

    c = eta sigma_s sqrt(1 - (alpha_t sigma_s / (alpha_s sigma_t))^2); ``eta`` in [0, 1] is the share of the
    ancestral noise: 0 is DDIM, the exponential Euler step of the probability-flow ODE, 1 DDPM's ancestral
    sampling (``ancestral``). Order 1. Song et al. 2021 (arXiv 2010.02502, eq. 12 and 16), for any alpha and
    sigma; nothing is clipped.
    """

    eta: float = 0.0
    order = 1

    def __post_init__(self) -> None:
        check_eta(self.eta, 1.0)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            c = self.eta * s.sigma * sqrt(max(0.0, 1 - (t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2))
            if c:
                x = tape.state(s.alpha * d + sqrt(s.sigma**2 - c**2) * eps_of(t, x, d) + c * tape.noise())
            else:
                x = tape.state(ddim(t, s, x, d))
        return x
