"""Solvers of the reverse SDE: exponential integrators on the data or the noise, and a stochastic Runge-Kutta.

In y = x / alpha and rho = sigma / alpha the SDE of every process is dy = (1 + eta) (y - D) d log(rho) +
sqrt(2 eta) rho dw, w a Brownian motion in lam = -log(rho) and D the estimate of x_0.
"""

from dataclasses import dataclass
from math import exp, expm1, isinf, log, sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import (
    check_eta,
    ddim,
    eps_of,
    materialized,
    move,
    transition_factor,
    transition_mean,
    transition_noise,
    transition_std,
)
from .runge_kutta import check_ratio


@dataclass(frozen=True)
class DPMSolverPPSDE:
    """Singlestep DPM-Solver++ of two stages on the reverse SDE, both from x at level t.

    u = c(t, m, x, d) + n_m and x_s = c(t, s, x, (1 - 1 / 2r) d + d_u / 2r) + n_s. Here c is the mean of the
    SDE for constant data and n its noise, of deviation sigma_s sqrt(1 - exp(-2 eta h)). Weak order 2, two
    network calls a step. A step from alpha = 0 or to sigma = 0 is DDIM's, one call.

    Source: ``dpmpp_sde`` of k-diffusion (Crowson 2022), after Lu et al. 2022 (arXiv 2211.01095). There n_m
    and n_s are increments of one Brownian path in sigma, each scaled to its deviation. Here they are the
    noise of the SDE on one path: n_s is n_m, carried from m to s, and fresh noise. Their correlation differs
    by O(h). Their eta is the eta of DDIM; it agrees with ours only at 0 and 1.

    Args:
        ratio: r in (0, 1), the part of the step in lam at which the inner level m is.
        eta: the scale of the noise, at least 0: 1 is the reverse SDE, 0 the ODE; this is then
            DPM-Solver++(2S).
    """

    ratio: float = 0.5
    eta: float = 1.0
    order = 2

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        check_eta(self.eta)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        share = 1 / (2 * self.ratio)
        for (t, s), m in zip(grid.steps(), grid.between(self.ratio), strict=True):
            d = tape.denoise(x, t)
            if isinf(s.lam - t.lam):
                x = tape.state(ddim(t, s, x, d))
                continue
            inner = transition_noise(tape, t, m, self.eta)
            du = tape.denoise(transition_mean(t, m, x, d, self.eta) + inner, m)
            noise = transition_factor(m, s, self.eta) * inner + transition_noise(tape, m, s, self.eta)
            x = tape.state(transition_mean(t, s, x, (1 - share) * d + share * du, self.eta) + noise)
        return x


@dataclass(frozen=True)
class SRA:
    """Roessler's SRA1, of strong order 1.5, on dQ = D dq + dw with Q = q x / alpha, q = (alpha / sigma)^2.

    In the time q the noise of the reverse SDE is constant. A step draws the increment I_1 of w and its
    integral I_10: H = Q + 3/4 D dq + 3/2 I_10 / dq at q + 3/4 dq, then Q + (D + 2 D_H) dq / 3 + I_1. Weak
    order 2, two network calls a step. A step to sigma = 0 returns the denoised estimate, one call.

    Roessler 2010 (SIAM J. Numer. Anal. 48, 922, scheme SRA1). The time q is our choice: a point mass is
    carried exactly, and steps can be long where the SDE is stiff in t. In law, though not path by path, 3/2
    I_10 / dq is w at q + 3/4 dq: this is :class:`DPMSolverPPSDE` with its inner level there.
    """

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        # lam of q + 3/4 dq, q = exp(2 lam), relative to s: t may be at q = 0. A step to infinity has none.
        lams = [
            s.lam + log(0.25 * exp(2 * (t.lam - s.lam)) + 0.75) / 2 if s.sigma else 0.0
            for t, s in grid.steps()
        ]
        for (t, s), m in zip(grid.steps(), grid.at(lams), strict=True):
            d = tape.denoise(x, t)
            if s.sigma == 0:
                return tape.state(ddim(t, s, x, d))
            z1, z2 = tape.noise(), tape.noise()  # I_1 = sqrt(dq) z1, I_10 = dq^(3/2) (z1 / 2 + z2 / sqrt(12))
            inner = transition_std(t, m, 1.0) * (sqrt(3) / 2 * z1 + z2 / 2)
            dh = tape.denoise(transition_mean(t, m, x, d, 1.0) + inner, m)
            x = tape.state(transition_mean(t, s, x, (d + 2 * dh) / 3, 1.0) + transition_std(t, s, 1.0) * z1)
        return x


@dataclass(frozen=True)
class SDEDPMSolver:
    """SDE-DPM-Solver-1 or 2M on the noise: x_s = (alpha_s / alpha_t) x - 2 sigma_s (exp(h) - 1) e + n.

    Order 1: e = eps, the estimated noise. Order 2: e is eps, extrapolated to the middle of the step, eps + h
    / (2 h_before) (eps - eps_before). n = sigma_s sqrt(exp(2 h) - 1) z. One network call a step. The first
    step, and a step from alpha = 0 or to sigma = 0, is of order 1.

    Use it with many steps only: eps changes with every draw, the data hardly. At few steps the SDE form of
    :class:`DPMSolverPP` is far better. A point mass is not carried exactly. Lu et al. 2022 (arXiv 2211.01095,
    section 5).

    Args:
        order: 1 or 2, the weak order.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: tuple[float, Vector] | None = None  # the step before in lam, and eps at its beginning
        for t, s in grid.steps():
            h, d = s.lam - t.lam, tape.denoise(x, t)
            if isinf(h):
                x, past = tape.state(ddim(t, s, x, d)), None
                continue
            eps = materialized(tape, eps_of(t, x, d)) if self.order == 2 else eps_of(t, x, d)
            mid = eps + h / (2 * past[0]) * (eps - past[1]) if past and self.order == 2 else eps
            x = tape.state(move(t, s, x, 2 * mid) + s.sigma * sqrt(expm1(2 * h)) * tape.noise())
            past = h, eps
        return x
