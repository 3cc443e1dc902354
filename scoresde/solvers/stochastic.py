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

    u = c(t, m, x, d) + n_m and x_s = c(t, s, x, (1 - 1 / 2r) d + d_u / 2r) + n_s, where c is the SDE's mean
    for constant data and n its noise, of deviation sigma_s sqrt(1 - exp(-2 eta h)). ``ratio`` r in (0, 1) is
    where in lam the inner level m is, ``eta`` at least 0 the SDE's share of noise: 1 is the reverse SDE, 0
    the ODE, on which this is DPM-Solver++(2S). Weak order 2, two network calls a step; one from alpha = 0 or
    to sigma = 0 is DDIM's.

    Source: ``dpmpp_sde`` of k-diffusion (Crowson 2022), after Lu et al. 2022 (arXiv 2211.01095). There n_m
    and n_s are increments of one Brownian path in sigma, each scaled to its deviation; here they are what one
    path makes of the SDE, n_s being n_m carried on from m to s and fresh noise, which are correlated
    otherwise by O(h). There eta is DDIM's, the same as ours at 0 and 1 only.
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

    That is the reverse SDE in a time in which its noise is constant. A step draws w's increment I_1 and its
    integral I_10: H = Q + 3/4 D dq + 3/2 I_10 / dq at q + 3/4 dq, then Q + (D + 2 D_H) dq / 3 + I_1. Weak
    order 2, two network calls a step; one to sigma = 0 is the denoiser itself. Roessler 2010 (SIAM J. Numer.
    Anal. 48, 922, scheme SRA1). The time is our choice: a point mass is carried exactly in it, and steps can
    be long where in t the SDE is stiff. In law, if not path by path, 3/2 I_10 / dq is w at q + 3/4 dq, and
    this is :class:`DPMSolverPPSDE` with its inner level there.
    """

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        # lam of q + 3/4 dq, q = exp(2 lam), told from s, for t may be at q = 0; a step to infinity has none.
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

    e is the noise eps that the network sees, for ``order`` 2 carried on to the middle of the step: eps + h /
    (2 h_before) (eps - eps_before); n = sigma_s sqrt(exp(2 h) - 1) z. Weak order as ``order`` says, one
    network call a step; the first step, and one from alpha = 0 or to sigma = 0, is of order 1. eps follows
    every draw, the data hardly: at few steps the SDE form of :class:`DPMSolverPP` is far better, and a point
    mass is not carried exactly. Lu et al. 2022 (arXiv 2211.01095, section 5).
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: tuple[float, Vector] | None = None  # the step in lam, and the noise at its beginning
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
