"""ER-SDE-Solvers: reverse SDEs of any amount of noise."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, isinf, log, sqrt

import numpy as np

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import ddim

_NODES, _WEIGHTS = (column.tolist() for column in np.polynomial.legendre.leggauss(32))


def er_sde_5(rho: float) -> float:
    """phi = rho (exp(rho^0.3) + 10): more noise at first, less at the end (SDE_5 of the authors' code)."""
    return rho * (exp(rho**0.3) + 10)


@dataclass(frozen=True, repr=False)
class ERSDE:
    """Multistep ER-SDE-Solver-1, 2 or 3 on the data: d(x / alpha) = (log phi)' (x / alpha - D) d rho + noise.

    x_s / alpha_s = c x / alpha_t + (1 - c) d + (rho_s - rho_t + phi_s I) d' + ... + n, with rho = sigma /
    alpha, c = phi_s / phi_t, I the integral of 1 / phi from rho_s to rho_t, and n of variance rho_s^2 - (c
    rho_t)^2. One network call a step. The weak order is 1 with one term, and 2 with two or three; on the ODE
    it is 3 with three. The first steps have fewer terms; a step from alpha = 0 or to sigma = 0 has one.

    Cui et al. 2023 (arXiv 2309.06169). Their d' is always the last difference quotient; here, with a third
    term, it is the slope of the parabola, which order 3 needs. Their integrals are sums of 100 terms; here
    they are exact to rounding.

    Args:
        terms: 1, 2 or 3: the terms of the expansion of the data in rho; each needs one more past output.
        phi: a positive function of rho; phi / rho must not fall as rho rises. rho is the ODE, rho^(1 + eta)
            the SDE whose noise is scaled by eta.
    """

    terms: int = 3
    phi: Callable[[float], float] = er_sde_5

    def __post_init__(self) -> None:
        if self.terms not in (1, 2, 3):
            raise ValueError(f"terms must be 1, 2 or 3, got {self.terms!r}")
        if not callable(self.phi):
            raise ValueError(f"phi must be a function of sigma / alpha, got {self.phi!r}")

    def __repr__(self) -> str:
        return f"ERSDE(terms={self.terms}, phi={getattr(self.phi, '__name__', 'a function')})"

    @property
    def order(self) -> int:
        return min(self.terms, 2)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: list[tuple[float, Vector]] = []  # rho and the output there, latest first
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                x, past = tape.state(ddim(t, s, x, d)), []
                continue
            a, b = t.sigma / t.alpha, s.sigma / s.alpha
            fall = self._fall(a, b)
            c = fall * b / a
            new = c / t.alpha * x + (1 - c) * d
            if past:
                zeroth, first = self._integrals(b, a)
                a1, d1 = past[0]
                slope = (d - d1) / (a - a1)
                new = new + (b - a + self.phi(b) * zeroth) * slope
            if len(past) == 2:
                a2, d2 = past[1]
                bend = (slope - (d1 - d2) / (a1 - a2)) / (a - a2)
                new = new + ((b - a) * (b - a1) + self.phi(b) * (2 * first + (a - a1) * zeroth)) * bend
            if fall < 1:
                new = new + b * sqrt(1 - fall**2) * tape.noise()
            past = [(a, d), *past][: self.terms - 1]
            x = tape.state(s.alpha * new)
        return x

    def _fall(self, a: float, b: float) -> float:
        """phi / rho at b over phi / rho at a: 1 on the ODE, and exactly 1 for phi = rho."""
        fall = self.phi(b) * a / (self.phi(a) * b)
        if not 0 < fall < 1 + 1e-12:  # the slack is for rounding
            raise ValueError(
                f"phi(rho) / rho must be positive and rise with rho; it falls from {b:g} to {a:g}"
            )
        return min(fall, 1.0)

    def _integrals(self, low: float, high: float) -> tuple[float, float]:
        """The integrals of 1 / phi and (rho - high) / phi, by the Gauss-Legendre rule in log(rho)."""
        middle, half = log(low * high) / 2, log(high / low) / 2
        points = [exp(middle + half * node) for node in _NODES]
        terms = [half * weight * rho / self.phi(rho) for weight, rho in zip(_WEIGHTS, points, strict=True)]
        return sum(terms), sum(term * (rho - high) for term, rho in zip(terms, points, strict=True))
