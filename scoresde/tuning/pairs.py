"""Initial noise, and the end of the exact solution from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

FeatureMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pairs:
    """M initial states, each with the end of the exact solution from it.

    Args:
        x: initial states, ``(M, ...)``.
        target: ends of the exact solution, like x.
        cond: conditions ``(M, ...)``, if there are any.
    """

    x: Tensor
    target: Tensor
    cond: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.x[part], self.target[part], None if self.cond is None else self.cond[part])

    def batches(self, size: int) -> Iterator["Pairs"]:
        """All pairs in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def joined(a: Pairs, b: Pairs) -> Pairs:
    """The pairs of both, in order."""
    cond = None if a.cond is None or b.cond is None else torch.cat([a.cond, b.cond])
    return Pairs(torch.cat([a.x, b.x]), torch.cat([a.target, b.target]), cond)


def features(feature_map: FeatureMap | None, x: Tensor) -> Tensor:
    """The features in which errors are measured; x itself without a map."""
    return x if feature_map is None else feature_map(x)


def squared_errors(ends: Tensor, target: Tensor, feature_map: FeatureMap | None = None) -> Tensor:
    """The mean square difference in features, for each sample, ``(B,)``."""
    return (features(feature_map, ends) - features(feature_map, target)).square().flatten(1).mean(1)
