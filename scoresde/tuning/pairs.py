"""Initial noise, and the end of the exact solution from it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from ..denoisers import conditions
from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike
from ..noise import Noise
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..processes.level import Level
from ..processes.sde import SDE

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
    cond: Condition = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.x[part], self.target[part], conditions.rows_of(self.cond, part))

    def batches(self, size: int) -> Iterator["Pairs"]:
        """All pairs in order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def joined(a: Pairs, b: Pairs) -> Pairs:
    """The pairs of both, in order."""
    cond = conditions.joined(a.cond, b.cond)
    return Pairs(torch.cat([a.x, b.x]), torch.cat([a.target, b.target]), cond)


def initial_pairs(
    sde: SDE,
    shape: tuple[int, ...],
    cond: Condition,
    seed: int,
    ids: Tensor,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
) -> Pairs:
    """The initial states of noises by number; their ends are not known yet, and x stands in their place.

    Args:
        sde: the process.
        shape: of one sample.
        cond: conditions ``(K, ...)``; noise i has condition i mod K.
        seed: of the noise.
        ids: numbers of the noises, ``(M,)``.
        device: of the state.
        dtype: of the state.
    """
    x = sde.level_at(sde.t_max).sigma * Noise(seed, ids.to(device), shape)(0).to(dtype)
    return Pairs(x, x, conditions.moved(conditions.in_turn(cond, ids), device))


def ends(denoiser: DenoiserLike, plan: Plan, pairs: Pairs, batch_size: int) -> Tensor:
    """The ends of a plan from the initial states, ``(M, ...)``."""

    def end(part: Pairs) -> Tensor:
        def denoise(x: Tensor, level: Level[Any]) -> Tensor:
            return denoiser(x, level, part.cond)

        return cast(Tensor, integrate(plan, denoise, part.x))

    return torch.cat([end(part) for part in pairs.batches(batch_size)])


def with_ends(denoiser: DenoiserLike, plan: Plan, pairs: Pairs, batch_size: int) -> Pairs:
    """The same initial states, with the ends of a plan as their targets."""
    return replace(pairs, target=ends(denoiser, plan, pairs, batch_size))


def features(feature_map: FeatureMap | None, x: Tensor) -> Tensor:
    """The features in which errors are measured; x itself without a map."""
    return x if feature_map is None else feature_map(x)


def squared_errors(ends: Tensor, target: Tensor, feature_map: FeatureMap | None = None) -> Tensor:
    """The mean square difference in features, for each sample, ``(B,)``."""
    return (features(feature_map, ends) - features(feature_map, target)).square().flatten(1).mean(1)
