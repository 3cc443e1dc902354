"""Samples of a tilted law by weighted particles: what guidance is meant to sample."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...conditioning.given import Given
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
class Tilted(Integrator):
    """Samples of p(x)^(1 - w) p(x | c)^w, that is p(x) p(c | x)^w, by Feynman-Kac weights.

    Guidance does not sample this law. The particles move by the reverse SDE of guidance,
    D_w = D_u + w (D_c - D_u), and the weight of each changes by

        d log W = w (w - 1) / 2 |D_c - D_u|^2 d(alpha^2 / sigma^2).

    It needs no other network call than guidance: two a step. With some 64 particles it is right for w up to
    3; with larger w few particles survive.

    Skreta et al. 2025 (arXiv 2503.02819). Differences: groups of particles; systematic resampling only where
    the weights differ, and at the end.

    Args:
        null: the condition that means none: a label, or a condition with one row
            (:class:`scoresde.conditioning.Given`).
        weight: w, finite.
        particles: P, of a group, at least 2; the number of samples, and ``batch_size``, are multiples of it.
        ess: a group is resampled when its effective number of particles is below this share of P, in [0, 1].

    Raises:
        ValueError: an argument outside its range; when run, samples without a condition.
    """

    null: Any
    weight: float
    particles: int = 64
    ess: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "particles", check_options(self.particles, self.ess))
        if not math.isfinite(self.weight):
            raise ValueError(f"weight must be finite, got {self.weight!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The longest run within ``nfe`` network calls; ValueError if no run fits.

        With ``to_clean`` the samples are D_w at the last level.
        """
        if nfe is None:
            raise ValueError("nfe must be a number for the tilted law, got None")
        steps = most_steps(nfe, lambda n: 2 * (n + to_clean), "the tilted law", spacing)
        grid = build_grid(sde, spacing, steps)

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            return self.carry_out(denoise, x, noise, grid, to_clean=to_clean).x

        end = CLEAN if to_clean else grid.levels[-1]
        return Integration(grid.levels[0], end, 2 * (steps + to_clean), integrate, True)

    def carry_out(
        self, denoise: Denoise, x: Tensor, noise: Draw, grid: Grid, *, to_clean: bool = False
    ) -> Cloud:
        """The run on the levels of a grid, with the mean weights and how they behaved."""
        groups, w = Groups(x, self.particles, self.ess), self.weight
        without = self._without(denoise)

        def guided(x: Tensor, t: Level[float]) -> tuple[Tensor, Tensor]:
            """D_w and D_c - D_u."""
            d = without(x, t)
            gap = denoise(x, t) - d
            return d + w * gap, gap

        for i, (t, s) in enumerate(grid.steps()):
            select, z = draws(noise, i)
            x = x[groups.resample(select)]
            d, gap = guided(x, t)
            growth = (s.alpha / s.sigma) ** 2 - (t.alpha / t.sigma) ** 2
            groups.weigh(0.5 * w * (w - 1) * growth * exact(dot(gap, gap)))
            factor, std = transition_factor(t, s, 1.0), transition_std(t, s, 1.0)
            x = factor * x + (s.alpha - factor * t.alpha) * d + std * z
        x = x[groups.resample(draws(noise, len(grid.levels) - 1)[0], always=True)]
        return groups.cloud(guided(x, grid.levels[-1])[0] if to_clean else x)

    def _without(self, denoise: Denoise) -> Denoise:
        """The denoiser without the condition."""
        if not isinstance(denoise, BatchDenoiser) or denoise.cond is None:
            raise ValueError("cond must be given: the tilted law is that of a condition")
        return Given(denoise.denoiser, self.null)
