"""A denoiser with the conditions of a batch: what a run calls."""

from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from ..processes.level import Level
from .conditions import Condition, rows_of
from .protocol import DenoiserLike


@dataclass(frozen=True, eq=False)
class BatchDenoiser:
    """The denoiser of a batch, to ask for all of it or for some ``rows``.

    Args:
        denoiser: the estimate of x_0.
        cond: the conditions of the samples of the batch.
    """

    denoiser: DenoiserLike
    cond: Condition = None

    def __call__(self, x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        return self.denoiser(x, level, self.cond if rows is None else rows_of(self.cond, rows))

    def under(self, cond: Condition) -> Self:
        """The same denoiser with other conditions."""
        return replace(self, cond=cond)
