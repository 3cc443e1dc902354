"""Estimates kept within the range of the data."""

import math
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser
from ..processes.level import Level, column


class Thresholded(Wrapper):
    """The estimate within [-bound, bound]: cut there, or divided by a quantile of its size.

    * Static: D clamped.
    * Dynamic: D clamped to [-s, s], times bound / s; s is the quantile of the absolute values of each sample,
      at least ``bound`` (Saharia et al. 2022, arXiv 2205.11487, section 2.3: the bound 1, the quantile
      0.995).

    For pixels, not for latents.

    Args:
        denoiser: D, often a :class:`Guided`.
        bound: the largest absolute value of the data, positive.
        quantile: in (0, 1), for dynamic thresholding; None for static.

    Raises:
        TypeError: not a denoiser.
        ValueError: a bound that is not positive and finite, a quantile out of (0, 1).
    """

    def __init__(self, denoiser: DenoiserLike, bound: float = 1.0, quantile: float | None = None) -> None:
        self.denoiser, self.bound, self.quantile = as_denoiser(denoiser), bound, quantile
        if not 0 < bound < math.inf:
            raise ValueError(f"bound must be positive and finite, got {bound!r}")
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"quantile must be in (0, 1), or None for static thresholding, got {quantile!r}")

    def at(self, dtype: torch.dtype | None) -> "Thresholded":
        """The denoiser inside in another precision, with the same threshold."""
        return Thresholded(self.denoiser.at(dtype), self.bound, self.quantile)

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        estimate = self.denoiser(x, level, cond)
        if self.quantile is None:
            return estimate.clamp(-self.bound, self.bound)
        limit = column(_quantile(estimate.abs(), self.quantile).clamp(min=self.bound), estimate)
        within: Tensor = estimate.clamp(-limit, limit) * (self.bound / limit)
        return within


def _quantile(x: Tensor, share: float) -> Tensor:
    """The quantile over the numbers of each sample, ``(B,)``, linear between two of them.

    ``torch.quantile`` refuses more than 16 million numbers.
    """
    flat = x.reshape(len(x), -1)
    place = share * (flat.shape[1] - 1)
    largest = flat.topk(flat.shape[1] - math.floor(place)).values  # the largest first
    lower, upper = largest[:, -1], largest[:, max(-2, -largest.shape[1])]
    return torch.lerp(lower, upper, place % 1)
