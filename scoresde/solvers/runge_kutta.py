"""Runge-Kutta methods: classic ones on the noise in sigma / alpha, and an exponential one on the data."""

from dataclasses import dataclass
from math import exp, factorial, isinf, log

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..spacings.grid import Grid
from .moves import ddim, eps_of, move


@dataclass(frozen=True)
class Heun:
    """The trapezoid rule in sigma / alpha: an Euler step, then a step along the mean noise of its two ends.

    Order 2, two network calls a step. A step from alpha = 0 or to sigma = 0 is Euler's, one call. Karras et
    al. 2022 (arXiv 2206.00364, Algorithm 1), for any alpha and sigma.
    """

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            guess = ddim(t, s, x, d)
            if s.sigma == 0 or t.alpha == 0:
                x = tape.state(guess)
                continue
            eps = (eps_of(t, x, d) + eps_of(s, guess, tape.denoise(guess, s))) / 2
            x = tape.state(move(t, s, x, eps))
        return x


@dataclass(frozen=True)
class Midpoint:
    """The midpoint rule in rho = sigma / alpha: an Euler step to a level m inside, then a step by both.

    x_s is x moved along (1 - 1 / 2r) eps_t + 1 / 2r eps_m. Order 2, two network calls a step. A step from
    alpha = 0 or to sigma = 0 is Euler's, one call.

    Args:
        ratio: r in (0, 1), the part of the step at which m is.
        variable: r is a part of the step in ``"rho"`` or in ``"lambda"``.

    Known as:

    - in rho: Algorithm 3 of Karras et al. 2022 (arXiv 2206.00364), where r is called alpha; Ralston's rule at
      r = 2/3. (Heun's method would be r = 1.)
    - in lambda at r = 1/2, where rho_m = sqrt(rho_t rho_s): DPM-2 of k-diffusion (Crowson 2022), KDPM2 of
      diffusers.
    """

    ratio: float = 1 / 2
    variable: str = "rho"
    order = 2

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        if self.variable not in ("rho", "lambda"):
            raise ValueError(f"variable must be 'rho' or 'lambda', got {self.variable!r}")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        inner = inside(grid, self.ratio) if self.variable == "rho" else grid.between(self.ratio)
        for (t, s), m in zip(grid.steps(), inner, strict=True):
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                x = tape.state(ddim(t, s, x, d))
                continue
            e, u = eps_of(t, x, d), ddim(t, m, x, d)
            e_m = eps_of(m, u, tape.denoise(u, m))
            x = tape.state(move(t, s, x, e + (e_m - e) / (2 * self.ratio)))
        return x


@dataclass(frozen=True)
class RungeKutta4:
    """The classic Runge-Kutta method in rho = sigma / alpha, on the noise.

    x_s is x moved along (e_1 + 2 e_2 + 2 e_3 + e_4) / 6: the noise at t, twice in the middle in rho, and at
    s. A move along each noise leads to the point of the next one. Order 4, four network calls a step. A step
    from alpha = 0 or to sigma = 0 is Euler's, one call. Kutta 1901; as moves along noise, the pseudo
    Runge-Kutta method of Liu et al. 2022 (arXiv 2202.09778). Their middle is the middle in t, and their order
    2.
    """

    order = 4

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for (t, s), m in zip(grid.steps(), inside(grid, 1 / 2), strict=True):
            d = tape.denoise(x, t)
            x = tape.state(
                ddim(t, s, x, d) if isinf(s.lam - t.lam) else rk4(tape, t, m, s, x, eps_of(t, x, d))
            )
        return x


def rk4(tape: Tape, t: Level[float], m: Level[float], s: Level[float], x: Vector, e1: Vector) -> Vector:
    """A step of the classic Runge-Kutta method; e1 is the noise at t, m the middle in sigma / alpha."""

    def noise_at(level: Level[float], e: Vector) -> Vector:
        u = move(t, level, x, e)
        return eps_of(level, u, tape.denoise(u, level))

    e2 = noise_at(m, e1)
    e3 = noise_at(m, e2)
    e4 = noise_at(s, e3)
    return move(t, s, x, (e1 + 2 * e2 + 2 * e3 + e4) / 6)


@dataclass(frozen=True)
class ExponentialRK4:
    """The exponential Runge-Kutta method of stiff order 4, on the data, in lambda.

    With y = x / alpha the probability-flow ODE is dy / dlam = -y + D. A stage at the fraction c of a step of
    length h in lambda is y_c = e^(-c h) y + h sum_j a_j D_j; the end of the step is the stage at c = 1. The
    linear part is exact, and a_j are sums of phi_k(-c h) and phi_k(-h). Order 4, five network calls a step,
    at c = 0, 1/2, 1/2, 1 and 1/2. A step from alpha = 0 or to sigma = 0 is of order 1, one call. Hochbruck
    and Ostermann 2005 (SIAM J. Numer. Anal. 43, 1069, eq. 5.19).
    """

    order = 4

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for (t, s), m in zip(grid.steps(), grid.between(1 / 2), strict=True):
            h, d1 = s.lam - t.lam, tape.denoise(x, t)
            if isinf(h):
                x = tape.state(ddim(t, s, x, d1))
                continue
            # The weights h a_j sum to h c phi_1(-c h), ddim's factor on D: so a_j for j > 1 weigh D_j - D_1.
            p1, p2, p3 = (phi(k, -h / 2) for k in (1, 2, 3))
            q1, q2, q3 = (phi(k, -h) for k in (1, 2, 3))
            d2 = tape.denoise(ddim(t, m, x, d1), m) - d1
            d3 = tape.denoise(ddim(t, m, x, d1 + 2 * p2 / p1 * d2), m) - d1
            d4 = tape.denoise(ddim(t, s, x, d1 + q2 / q1 * (d2 + d3)), s) - d1
            a = p2 / 2 - p3 / 2 + q2 / 4 - q3
            d5 = tape.denoise(ddim(t, m, x, d1 + 2 / p1 * (a * (d2 + d3) + (p2 / 4 - a) * d4)), m) - d1
            x = tape.state(ddim(t, s, x, d1 + ((4 * q3 - q2) * d4 + (4 * q2 - 8 * q3) * d5) / q1))
        return x


def phi(k: int, z: float) -> float:
    """phi_k(z) = sum_i z^i / (i + k)!, that is e^z for k = 0 and (phi_(k-1)(z) - 1 / (k - 1)!) / z."""
    if abs(z) < 1:  # the difference would cancel; 20 terms of the sum are exact to rounding
        return sum(z**i / factorial(i + k) for i in range(20))
    return (phi(k - 1, z) - 1 / factorial(k - 1)) / z if k else exp(z)


def inside(grid: Grid, r: float) -> tuple[Level[float], ...]:
    """The level inside each step at the fraction ``r`` in sigma / alpha; see :meth:`Grid.between`."""
    rhos = [(1 - r) * exp(-t.lam) + r * exp(-s.lam) for t, s in grid.steps()]
    infinite = [isinf(s.lam - t.lam) for t, s in grid.steps()]
    return grid.at([0.0 if none else -log(rho) for rho, none in zip(rhos, infinite, strict=True)])


def check_ratio(ratio: float) -> None:
    """ValueError unless the inner level is inside its step."""
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must be between 0 and 1, both excluded, got {ratio!r}")
