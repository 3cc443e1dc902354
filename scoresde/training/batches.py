"""Batches: samples of the data by their numbers, in an order that the seed and the step decide."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.pixels import to_float
from .randomness import seed_of


def check_data(x: Any) -> None:
    """TypeError or ValueError unless x is a tensor or an array ``(N, ...)`` of real numbers."""
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(
            f"x must be a tensor or an array of all data, (N, ...), got {type(x).__name__}; a step reads its "
            f"samples by their numbers (a memory-mapped array may be larger than the memory)"
        )
    real = x.dtype.kind in "uif" if isinstance(x, np.ndarray) else not x.is_complex()
    if x.ndim < 1 or not real or x.dtype == torch.bool:
        raise ValueError(f"x must be (N, ...) real numbers, got shape {tuple(x.shape)} of {x.dtype}")


def select(x: Tensor | np.ndarray, indices: Tensor) -> Tensor:
    """The samples of the data with these numbers, in the network's range: :func:`to_float`."""
    if isinstance(x, Tensor):
        return to_float(x[indices.to(x.device)])
    part = x[indices.numpy()]
    return to_float(torch.from_numpy(part if part.dtype == np.uint8 else part.astype(np.float32)))


def batch_indices(seed: int, step: int, size: int, n: int) -> Tensor:
    """Numbers of the samples of a step's batch; every epoch has all samples once, in a random order."""
    place = torch.arange(step * size, (step + 1) * size)
    epochs = range(step * size // n, ((step + 1) * size - 1) // n + 1)
    return torch.cat([_order(seed, epoch, n)[place[place // n == epoch] % n] for epoch in epochs])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed_of(seed, -1 - epoch)))
