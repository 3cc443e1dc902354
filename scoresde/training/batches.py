"""Batches of the data, and how the data lie."""

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.pixels import to_float
from ..denoisers.predictions import Prediction
from ..processes.level import Level
from .randomness import seed_of
from .times import LogNormal, Times

FEW, NUMBERS = 4096, 2**23  # samples, and numbers in them, that stand for all data


MANY = 16  # numbers of a sample from which on it is taken for an image or the like


FACTOR = 2.05  # 2, and what a part of the data may differ from all


USUAL = 0.6  # deviations of the data: the median sigma / alpha of Karras et al. 2022, exp(-1.2) for 0.5


def check_data(x: Any) -> None:
    """TypeError or ValueError unless x is a tensor or an array ``(N, ...)`` of real numbers."""
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(
            f"x must be a tensor or an array of all data, (N, ...), got {type(x).__name__}; batches "
            f"are drawn from it by number (a memory-mapped array may be larger than the memory)"
        )
    real = x.dtype.kind in "uif" if isinstance(x, np.ndarray) else not x.is_complex()
    if x.ndim < 1 or not real or x.dtype == torch.bool:
        raise ValueError(f"x must be (N, ...) real numbers, got shape {tuple(x.shape)} of {x.dtype}")


def chosen(x: Tensor | np.ndarray, indices: Tensor) -> Tensor:
    """Samples of the data by their numbers, as a network is to see them: :func:`to_float`."""
    if isinstance(x, Tensor):
        return to_float(x[indices.to(x.device)])
    part = x[indices.numpy()]
    return to_float(torch.from_numpy(part if part.dtype == np.uint8 else part.astype(np.float32)))


def batch_indices(seed: int, step: int, size: int, n: int) -> Tensor:
    """Indices of a step's batch: one endless walk through the data, shuffled anew in every epoch."""
    place = torch.arange(step * size, (step + 1) * size)
    epochs = range(step * size // n, ((step + 1) * size - 1) // n + 1)
    return torch.cat([_order(seed, epoch, n)[place[place // n == epoch] % n] for epoch in epochs])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed_of(seed, -1 - epoch)))


def deviation(x: Tensor | np.ndarray) -> float:
    """Standard deviation of all numbers of the data as a network sees them, :func:`to_float`.

    It is what ``sigma_data`` of the EDM prediction is to be. Of a large data set, at most 4,096 samples that
    are spread evenly count.
    """
    return float(_few(x).double().std(correction=0))


def warn_of_scale(x: Tensor | np.ndarray, prediction: Prediction, times: Times, stacklevel: int) -> None:
    """Warn where data do not have the scale that training is set for.

    These are samples of 16 numbers or more that are never negative, such as pixels in [0, 1]; and a deviation
    that is beyond a factor 2 from what the prediction is made for (``sigma_data``), or log-normal times whose
    median sigma / alpha is outside 0.3 to 2 deviations.
    """
    few = _few(x)
    low, high = few.min().item(), few.max().item()
    if 0 <= low < high and few[0].numel() >= MANY:
        warnings.warn(
            f"the data lie in [{low:.4g}, {high:.4g}], while networks are made for numbers around 0, such as "
            f"pixels in [-1, 1]: scale them, or give pixels as uint8",
            stacklevel=stacklevel,
        )
        return
    std, expected = few.double().std(correction=0).item(), _deviation_for(prediction)
    if not std > 0:
        return
    if expected and not 1 / FACTOR <= std / expected <= FACTOR:
        warnings.warn(
            f"the prediction is made for data of the deviation sigma_data = {expected:.4g}, and these have "
            f"{std:.4g}: set sigma_data to that, or scale the data",
            stacklevel=stacklevel,
        )
    if isinstance(times, LogNormal) and not USUAL / FACTOR <= math.exp(times.mean) / std <= FACTOR:
        warnings.warn(
            f"half of the times are at a sigma / alpha below {math.exp(times.mean):.4g}, by mean = "
            f"{times.mean:.4g}, while the data have the deviation {std:.4g}: what is to be learned lies "
            f"around that; mean = {math.log(USUAL * std):.2f} is usual, the log of {USUAL} deviations",
            stacklevel=stacklevel,
        )


def _few(x: Tensor | np.ndarray) -> Tensor:
    count = min(FEW, max(4, NUMBERS // max(math.prod(x.shape[1:]), 1)))
    return chosen(x, torch.arange(0, len(x), -(-len(x) // count)))


def _deviation_for(prediction: Prediction) -> float | None:
    """The deviation that a prediction scales to 1 where there is no noise; None if its scale is fixed."""
    numbers = (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (math.inf, 0.0)
    scale = prediction(Level(*(torch.tensor(pair, dtype=torch.float64) for pair in numbers))).scale
    if not isinstance(scale, Tensor) or scale.shape != (2,):
        return None
    clean, noisy = scale.tolist()
    return 1 / clean if clean != noisy and 0 < clean < math.inf else None
