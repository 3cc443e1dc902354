"""Noises, and where the exact solution takes them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Noises ``(M, ...)`` that runs start from, and where the exact solution takes them; conditions."""

    x: Tensor
    target: Tensor
    cond: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.x[part], self.target[part], None if self.cond is None else self.cond[part])

    def batches(self, size: int) -> Iterator["Pairs"]:
        """In order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def perceived(perceive: Map | None, x: Tensor) -> Tensor:
    """What an error is taken of: x itself, or a map of it."""
    return x if perceive is None else perceive(x)


def squares(ends: Tensor, target: Tensor, perceive: Map | None = None) -> Tensor:
    """The mean square difference of every sample, ``(B,)``."""
    return (perceived(perceive, ends) - perceived(perceive, target)).square().flatten(1).mean(1)
