"""Rules of guidance against saturation: they change the size or the direction of D - D_other.

Unlike the plain rule, these are not the same for estimates of the noise or of the velocity: they act on the
estimate of the data. Each treats each sample by itself, and gives D for the weight 1.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..devices import exact
from ..processes.level import column
from .guidance import Rule, mixed


@dataclass(frozen=True)
class Rescaled:
    """D_w (1 - share + share std(D) / std(D_w)): the guided estimate with the contrast of D.

    Lin et al. 2024 (arXiv 2305.08891, section 3.4), with their phi as ``share``; theirs acts on the output of
    the network.

    Args:
        share: phi, in [0, 1].
        rule: makes D_w.

    Raises:
        ValueError: a share out of [0, 1].
    """

    share: float = 0.7
    rule: Rule = mixed

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in [0, 1], got {self.share!r}")

    def __call__(self, good: Tensor, other: Tensor, weight: Any) -> Tensor:
        """The combination of two estimates ``(B, ...)``; the weight broadcasts with them."""
        mean = self.rule(good, other, weight)
        wanted, found = _deviation(good), _deviation(mean)
        ratio = torch.where(found > 0, wanted / found, 1.0)
        scaled: Tensor = mean * column(1 + self.share * (ratio - 1), mean)
        return scaled


@dataclass(frozen=True)
class Projected:
    """D + (w - 1) (d - (1 - along) p): d = D - D_other, shortened to ``radius``; p, its part along D.

    The adaptive projected guidance of Sadat et al. 2024 (arXiv 2410.02416, algorithm 1), with their r as
    ``radius`` and eta as ``along``, without momentum, which would be a state from call to call.

    Args:
        radius: the largest norm of d over a sample, positive; infinity for no limit.
        along: the share of p that stays, finite; 1 for no projection.
        rule: combines D and D - (d - (1 - along) p).

    Raises:
        ValueError: a radius that is not positive, a share that is not finite.
    """

    radius: float = math.inf
    along: float = 0.0
    rule: Rule = mixed

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"radius must be positive, got {self.radius!r}")
        if not math.isfinite(self.along):
            raise ValueError(f"along must be finite, got {self.along!r}")

    def __call__(self, good: Tensor, other: Tensor, weight: Any) -> Tensor:
        """The combination of two estimates ``(B, ...)``; the weight broadcasts with them."""
        away = good - other
        norm2, square, product = _dot(away, away), _dot(good, good), _dot(away, good)
        short = (self.radius / norm2.sqrt()).clamp(max=1)  # 1 for a norm of 0
        along = torch.where(square > 0, product / square, 0.0)
        step = column(short, away) * (away - column((1 - self.along) * along, good) * good)
        return self.rule(good, good - step, weight)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each sample, ``(B,)``."""
    return _rounded((exact(a) * exact(b)).reshape(len(a), -1).sum(1))


def _deviation(x: Tensor) -> Tensor:
    """The standard deviation over the numbers of each sample, ``(B,)``."""
    return _rounded(exact(x).reshape(len(x), -1).std(1, correction=0))


def _rounded(sums: Tensor) -> Tensor:
    """Sums in float64, rounded to float32: their last digits depend on the batch."""
    return sums.float().double()
