"""Exact inversion: a two-step map of the probability-flow ODE, which is its own inverse.

In y = x / alpha and rho = sigma / alpha the ODE is dy / drho = eps(y, rho), eps = (y - D) / rho. From y_a and
y_b, with the steps h = rho_b - rho_a and k = rho_c - rho_b,

    y_c = (k / h)^2 y_a + (1 - (k / h)^2) y_b + k (1 + k / h) eps(y_b, rho_b).

Solved for y_a it is the same formula with a and c exchanged. So a run upwards in noise, and a run downwards
through the same levels, undo each other to rounding, whatever the denoiser. The local error is O(h^3); one
network call a step.

Upwards, an error made in one step returns in the next with the factor -(k / h)^2. Levels whose steps grow
without a jump keep it small beside y, which grows with rho: :class:`scoresde.spacings.Karras` does.
:class:`scoresde.spacings.FlowTime` does not, if rho ends far above the deviation of the data.

Wang et al. 2024 (arXiv 2410.07273, O-BELM). Difference: the pair of the last two states is kept, so that the
first step, which is Euler's, need not be inverted.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ...plans.executor import Denoise, Draw
from ...processes.level import Level
from ...spacings.grid import Grid
from .base import Integration


def encoding(grid: Grid) -> Integration:
    """The run from data to noise: from x ``(B, ...)`` at the last level of a grid to the pair of its ends.

    The result ``(B, 2, ...)`` holds y at the second and at the first level of the grid. It takes one network
    call a step.

    Args:
        grid: noisiest level first, as of every run; at least three levels.

    Raises:
        ValueError: fewer levels; a level with alpha = 0 or sigma = 0, where rho or eps is not finite.
    """
    levels = _checked(grid)[::-1]

    def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
        t, s = levels[:2]
        y = x / t.alpha
        first = y + (_rho(s) - _rho(t)) * _eps(denoise, y, t)
        return torch.stack(_carried(denoise, levels, y, first), 1)

    return Integration(levels[0], levels[-1], len(levels) - 1, integrate)


def decoding(grid: Grid) -> Integration:
    """The run from noise to data, the inverse of :func:`encoding`: from a pair to x at the last level.

    It takes one network call a step, except for the first step, which is in the pair.

    Args:
        grid: as in :func:`encoding`.

    Raises:
        ValueError: as :func:`encoding`.
    """
    levels = _checked(grid)

    def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
        _, y = _carried(denoise, levels, *x.flip(1).unbind(1))
        return levels[-1].alpha * y

    return Integration(levels[0], levels[-1], len(levels) - 2, integrate)


def _carried(
    denoise: Denoise, levels: tuple[Level[float], ...], before: Tensor, now: Tensor
) -> tuple[Tensor, Tensor]:
    """The last two y, from the first two: y at levels 0 and 1."""
    for a, b, c in zip(levels, levels[1:], levels[2:], strict=False):
        h, k = _rho(b) - _rho(a), _rho(c) - _rho(b)
        q = (k / h) ** 2
        before, now = now, q * before + (1 - q) * now + k * (1 + k / h) * _eps(denoise, now, b)
    return before, now


def _eps(denoise: Denoise, y: Tensor, t: Level[float]) -> Any:
    return (y - denoise(t.alpha * y, t)) / _rho(t)


def _rho(t: Level[float]) -> float:
    return t.sigma / t.alpha


def _checked(grid: Grid) -> tuple[Level[float], ...]:
    """The levels of a grid; ValueError unless a run can be inverted on them."""
    if len(grid.levels) < 3:
        raise ValueError(f"grid must have at least 2 steps for an inversion, got {len(grid.levels) - 1}")
    for level in grid.levels:
        if not math.isfinite(level.lam):
            raise ValueError(
                f"grid must have alpha and sigma above 0 for an inversion, got {level.alpha:.6g} and "
                f"{level.sigma:.6g} at t = {level.t:.6g}; clip the SDE"
            )
    return grid.levels
