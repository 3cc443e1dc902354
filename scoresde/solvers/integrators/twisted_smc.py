"""Twisted sequential Monte Carlo: particles for posteriors that no single path samples."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...conditioning.covariances import Covariance, Isotropic
from ...conditioning.observed import Observed
from ...conditioning.rows import dot
from ...denoisers.batch import BatchDenoiser
from ...devices import exact
from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN, Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from ..moves import transition_factor, transition_std
from .base import Integration, Integrator, build_grid, most_steps
from .particles import Cloud, Groups, check_options, draws


@dataclass(frozen=True)
class TwistedSMC(Integrator):
    """Samples of p(x_0 | y), y = A x_0 + tau n, by weighted particles; exact as their number grows.

    The particles move by the reverse SDE of the posterior's estimate D_y, and are weighted by the exact ratio
    to the reverse SDE of the data and by an approximation of p(y | x_t), the twist:

        log w_s = log w_t + log psi_s(x_s) - log psi_t(x_t) + log p(x_s | x_t) - log q(x_s | x_t),
        log psi_t(x_t) = -1/2 r^T S^-1 r,  r = y - A D,  S = A R A^T + tau^2 I.

    p and q are the reverse transitions for x_0 = D and x_0 = D_y. The factors psi cancel except for the last
    one: they decide how fast the method converges, and not to what. A sample costs a network call a step, one
    more at the end, and no product with the network's derivative.

    Wu et al. 2023 (arXiv 2306.17775, Algorithm 1). Differences: D_y and the twist come from a covariance that
    needs no derivative of the network; particles form groups of their own; resampling is systematic, only
    where the weights differ, and at the end.

    Denoise with the plain denoiser: ``sample(denoiser, TwistedSMC(observed), shape, nfe=101)``. With
    ``observed.y`` None the condition is the pair ``(inner, y)``; all particles of a group need the same y.

    Args:
        observed: the operator, the observation and its noise.
        covariance: L and R of D_y, one that needs no derivative of the network.
        particles: P, of a group, at least 2; the number of samples, and ``batch_size``, are multiples of it.
        ess: a group is resampled when its effective number of particles is below this share of P, in [0, 1].

    Raises:
        ValueError: an argument outside its range; a covariance that needs derivatives.
    """

    observed: Observed
    covariance: Covariance = field(default_factory=Isotropic)
    particles: int = 16
    ess: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "particles", check_options(self.particles, self.ess))
        if self.covariance.vjps:
            kind = type(self.covariance).__name__
            raise ValueError(f"covariance must need no derivative of the network, got {kind}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The longest run within ``nfe`` network calls; ValueError if no run fits.

        With ``to_clean`` the samples are D_y at the last level.
        """
        if nfe is None:
            raise ValueError("nfe must be a number for twisted SMC, got None")
        steps = most_steps(nfe, lambda n: n + 1, "twisted SMC", spacing)
        grid = build_grid(sde, spacing, steps)

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            return self.carry_out(denoise, x, noise, grid, to_clean=to_clean).x

        end = CLEAN if to_clean else grid.levels[-1]
        return Integration(grid.levels[0], end, steps + 1, integrate, True)

    def carry_out(
        self, denoise: Denoise, x: Tensor, noise: Draw, grid: Grid, *, to_clean: bool = False
    ) -> Cloud:
        """The run on the levels of a grid, with its evidence log p(y) and how its weights behaved.

        The evidence is NaN if tau is 0. It leaves out what the data has below the last level.
        """
        groups = Groups(x, self.particles, self.ess)
        ask, y = self._observation(denoise, x)
        gain, operator = self.covariance.gain(self.observed), self.observed.operator

        def look(x: Tensor, t: Level[float]) -> tuple[Tensor, Tensor, Tensor]:
            """D, D_y - D and log psi."""
            d = ask(x, t)
            change, misfit = gain(y.to(d) - operator.forward(d), t, _no_derivative)
            return d, change, -0.5 * exact(misfit)

        known: Tensor | float = 0.0  # what the weights hold beyond the ratio of transitions so far
        for i, (t, s) in enumerate(grid.steps()):
            d, change, log_psi = look(x, t)
            groups.weigh(log_psi - known)
            select, z = draws(noise, i)
            rows = groups.resample(select)
            x, d, change, log_psi = (value[rows] for value in (x, d, change, log_psi))
            x, log_ratio = _moved(t, s, x, d, change, z)
            known = log_psi - log_ratio
        d, change, log_psi = look(x, grid.levels[-1])
        groups.weigh(log_psi - known + self._log_norm(y))
        rows = groups.resample(draws(noise, len(grid.levels) - 1)[0], always=True)
        return groups.cloud((d + change if to_clean else x)[rows])

    def _observation(self, denoise: Denoise, x: Tensor) -> tuple[Denoise, Tensor]:
        """The denoiser of the data, and y."""
        if self.observed.y is not None:
            return denoise, self.observed.y
        cond: Any = denoise.cond if isinstance(denoise, BatchDenoiser) else None
        pair = isinstance(cond, tuple | list) and len(cond) == 2 and isinstance(cond[1], Tensor)
        if not (isinstance(denoise, BatchDenoiser) and pair):
            raise ValueError("cond must be the pair (inner, y), because the observation is y of each sample")
        inner, y = cond
        first = y[:: self.particles].repeat_interleave(self.particles, 0)
        if len(y) != len(x) or not torch.equal(first, y):
            raise ValueError(
                f"cond must hold the same y for all {self.particles} particles of a group; repeat each y"
            )
        return denoise.under(inner), y

    def _log_norm(self, y: Tensor) -> float:
        """-m/2 log(2 pi tau^2), which makes the last factor psi a density of y."""
        tau2 = self.observed.tau**2
        return -0.5 * y[0].numel() * math.log(2 * math.pi * tau2) if tau2 else math.nan


def _moved(
    t: Level[float], s: Level[float], x: Tensor, d: Tensor, change: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """The particles after a step of q, and log p - log q of it, ``(B,)``, float64.

    With the mean m of p, m + shift that of q, and the deviation std of both:
    log p - log q = (|z|^2 - |shift / std + z|^2) / 2.
    """
    factor, std = transition_factor(t, s, 1.0), transition_std(t, s, 1.0)
    weight = s.alpha - factor * t.alpha
    shift = weight / std * change
    moved = factor * x + weight * d + std * (z + shift)
    return moved, -exact(dot(shift, z)) - 0.5 * exact(dot(shift, shift))


def _no_derivative(v: Any) -> Any:
    raise AssertionError("a covariance with vjps = 0 asked for a product")
