"""Solvers of order 1."""

from dataclasses import dataclass
from math import isinf, sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import check_eta, ddim, eps_of, score_of, transition_mean, transition_noise


@dataclass(frozen=True)
class EulerMaruyama:
    """Euler-Maruyama in t on the reverse SDE, dx = (f x - (1 + eta^2) / 2 g^2 score) dt + eta g dw.

    ``eta``, at least 0, scales the noise: 1 is the reverse SDE, 0 Euler on the probability-flow ODE. The weak
    order is 1. A step from alpha = 0, where f is infinite, or to sigma = 0 is the exact reverse transition
    for constant data. Song et al. 2021 (arXiv 2011.13456, eq. 6 and appendix G). Their code makes steps of
    1 / N on a grid of spacing (T - eps) / (N - 1); here a step is the spacing of the grid.
    """

    eta: float = 1.0
    order = 1

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for (t, s), (f, g2) in zip(grid.steps(), grid.rates, strict=True):
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                mean = transition_mean(t, s, x, d, self.eta**2)
                x = tape.state(mean + transition_noise(tape, t, s, self.eta**2))
                continue
            drift = f * x - (1 + self.eta**2) / 2 * g2 * score_of(t, x, d)
            x = x + (s.t - t.t) * drift
            x = tape.state(x + self.eta * sqrt((t.t - s.t) * g2) * tape.noise() if self.eta else x)
        return x


@dataclass(frozen=True)
class ReverseDiffusion:
    """The drift and noise of the forward step, reversed: x_s = (2 - a) x + G^2 score + G z.

    The exact forward transition from s to t has the factor a = alpha_t / alpha_s and the variance G^2 =
    sigma_t^2 - a^2 sigma_s^2. Weak order 1. A step to sigma = 0 returns the denoised estimate. Song et al.
    2021 (arXiv 2011.13456, eq. 46). Their code uses Euler for the sub-VP SDE; this formula holds there too.
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

    c = eta sigma_s sqrt(1 - (alpha_t sigma_s / (alpha_s sigma_t))^2). ``eta`` in [0, 1] scales the noise: 0
    is DDIM, the exponential Euler step of the probability-flow ODE; 1 is DDPM's ancestral sampling (Ho et al.
    2020, arXiv 2006.11239). Order 1. Song et al. 2021 (arXiv 2010.02502, eq. 12 and 16), for any alpha and
    sigma. Nothing is clipped.

    Known as: exponential Euler; DPM-Solver-1; Euler in sigma / alpha (``euler`` of k-diffusion).
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
