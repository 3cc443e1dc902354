"""The quantity that an Adams method interpolates, and the variable of its polynomial."""

from collections.abc import Callable
from math import expm1, isfinite, sqrt
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..plans.vector import Vector
from ..processes.level import Level
from ..processes.sde import SDE
from .moves import eps_of, transition_factor, transition_std

Numbers = NDArray[np.float64]


class Form(Protocol):
    """The network's estimate of a quantity m, and the exact solution of the SDE as an integral of m.

    x_s = factor x_t + integral of kernel(lam) m(lam) over [lam_t, lam_s] + std z. ``total`` is the integral
    of the kernel alone. ``tau`` scales the noise: 0 is the probability-flow ODE, 1 the reverse SDE.
    """

    def output(self, t: Level[float], x: Vector, d: Vector) -> Vector: ...
    def transition_factor(self, t: Level[float], s: Level[float], tau: float) -> float: ...
    def total(self, t: Level[float], s: Level[float], tau: float) -> float: ...
    def kernel(self, s: Level[float], tau: float, lam: Numbers) -> Numbers: ...
    def std(self, t: Level[float], s: Level[float], tau: float) -> float: ...


class DataForm:
    """The data x_0: kernel alpha_s (1 + tau^2) exp(-(1 + tau^2) (lam_s - lam))."""

    def output(self, t: Level[float], x: Vector, d: Vector) -> Vector:
        return d

    def transition_factor(self, t: Level[float], s: Level[float], tau: float) -> float:
        return transition_factor(t, s, tau**2)

    def total(self, t: Level[float], s: Level[float], tau: float) -> float:
        return -s.alpha * expm1(-(1 + tau**2) * (s.lam - t.lam))

    def kernel(self, s: Level[float], tau: float, lam: Numbers) -> Numbers:
        k = 1 + tau**2
        return s.alpha * k * np.exp(k * (lam - s.lam))

    def std(self, t: Level[float], s: Level[float], tau: float) -> float:
        return transition_std(t, s, tau**2)


class NoiseForm:
    """The noise eps: kernel -sigma_s (1 + tau^2) exp(lam_s - lam)."""

    def output(self, t: Level[float], x: Vector, d: Vector) -> Vector:
        return eps_of(t, x, d)

    def transition_factor(self, t: Level[float], s: Level[float], tau: float) -> float:
        return s.alpha / t.alpha

    def total(self, t: Level[float], s: Level[float], tau: float) -> float:
        return -(1 + tau**2) * s.sigma * expm1(s.lam - t.lam)

    def kernel(self, s: Level[float], tau: float, lam: Numbers) -> Numbers:
        return -(1 + tau**2) * s.sigma * np.exp(s.lam - lam)

    def std(self, t: Level[float], s: Level[float], tau: float) -> float:
        return tau * s.sigma * sqrt(expm1(2 * (s.lam - t.lam)))


class VelocityForm:
    """The velocity eps - x_0, the slope of x / (alpha + sigma) in u = sigma / (alpha + sigma); ODE only."""

    def output(self, t: Level[float], x: Vector, d: Vector) -> Vector:
        return eps_of(t, x, d) - d

    def transition_factor(self, t: Level[float], s: Level[float], tau: float) -> float:
        return (s.alpha + s.sigma) / (t.alpha + t.sigma)

    def total(self, t: Level[float], s: Level[float], tau: float) -> float:
        return s.sigma - self.transition_factor(t, s, tau) * t.sigma

    def kernel(self, s: Level[float], tau: float, lam: Numbers) -> Numbers:
        return -(s.alpha + s.sigma) / (2 * np.cosh(lam / 2)) ** 2

    def std(self, t: Level[float], s: Level[float], tau: float) -> float:
        return 0.0


FORMS: dict[str, Form] = {"data": DataForm(), "noise": NoiseForm(), "velocity": VelocityForm()}

# The variables of a polynomial as functions of the half log-SNR.
VARIABLES: dict[str, Callable[[SDE, Numbers], Numbers]] = {
    "lambda": lambda sde, lam: lam,
    "rho": lambda sde, lam: np.exp(-lam),
    "u": lambda sde, lam: 1 / (1 + np.exp(lam)),
    "t": lambda sde, lam: sde.time_of(torch.from_numpy(lam)).numpy(),
}

# The Gauss-Legendre rule on [-1, 1]. For steps of up to 30 in lam its error is below rounding for every form.
POINTS, WEIGHTS = np.polynomial.legendre.leggauss(32)


def quadrature(first: float, last: float) -> tuple[Numbers, Numbers]:
    """Points and weights of an integral over lam from ``first`` to ``last``.

    Where an end is infinite, the points are those of a rule in u = 1 / (1 + exp(lam)).
    """
    if isfinite(last - first):
        return first + (last - first) * (1 + POINTS) / 2, WEIGHTS * (last - first) / 2
    start, end = 1 / (1 + np.exp(np.array([first, last])))
    u = start + (end - start) * (1 + POINTS) / 2
    return np.log1p(-u) - np.log(u), WEIGHTS * (end - start) / (2 * u * (u - 1))


_SAME = np.eye(16, dtype=bool)


def lagrange(y: Numbers, nodes: Numbers) -> Numbers:
    """Lagrange's polynomials at the points y, one row per node a: prod of (y - b) / (a - b) over b != a."""
    same = _SAME[: len(nodes), : len(nodes)]
    factors = (y - nodes[:, None]) / np.where(same, 1.0, nodes[:, None] - nodes)[..., None]
    factors[same] = 1.0
    product: Numbers = factors.prod(1)
    return product
