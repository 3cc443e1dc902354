"""The scale of the data, and warnings where the settings of a training are made for another."""

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from ..denoisers.predictions import Prediction
from ..processes.level import Level
from .batches import select
from .time_sampling import LogNormal, TimeSampling

# A scale is measured on this many samples at most, and fewer where samples are large.
MOST_SAMPLES, MOST_NUMBERS = 4096, 2**23
IMAGE_NUMBERS = 16  # a sample of this many numbers or more may be an image
FACTOR = 2.05  # allowed between two scales: 2, and the error of a part of the data
USUAL_MEDIAN = 0.6  # median of sigma / alpha over the deviation: exp(-1.2) / 0.5 (Karras et al. 2022)


def deviation(x: Tensor | np.ndarray) -> float:
    """Standard deviation over all numbers of the data, in the network's range (:func:`to_float`).

    ``sigma_data`` of the EDM prediction should have this value. A large data set is measured on at most 4,096
    samples at equal distances.

    Args:
        x: the data, ``(N, ...)``.
    """
    return float(_part(x).double().std(correction=0))


def warn_about_scale(
    x: Tensor | np.ndarray, prediction: Prediction, time_sampling: TimeSampling, stacklevel: int
) -> None:
    """Warn in each of these cases:

    1. Samples have 16 numbers or more, and none is negative, as in images with pixels in [0, 1].
    2. The deviation differs by more than a factor 2 from ``sigma_data``, which the prediction assumes.
    3. The median sigma / alpha of log-normal times is outside 0.3 to 2 deviations.
    """
    part = _part(x)
    low, high = part.min().item(), part.max().item()
    if 0 <= low < high and part[0].numel() >= IMAGE_NUMBERS:
        warnings.warn(
            f"the data lie in [{low:.4g}, {high:.4g}], while networks are made for numbers around 0, such as "
            f"pixels in [-1, 1]: scale them, or give pixels as uint8",
            stacklevel=stacklevel,
        )
        return
    std, assumed = part.double().std(correction=0).item(), _assumed_deviation(prediction)
    if not std > 0:
        return
    if assumed and not 1 / FACTOR <= std / assumed <= FACTOR:
        warnings.warn(
            f"the prediction assumes data of deviation sigma_data = {assumed:.4g}, but these have {std:.4g}: "
            f"set sigma_data to {std:.4g}, or scale the data",
            stacklevel=stacklevel,
        )
    if isinstance(time_sampling, LogNormal):
        median = math.exp(time_sampling.mean)
        if not USUAL_MEDIAN / FACTOR <= median / std <= FACTOR:
            warnings.warn(
                f"half of the times have a sigma / alpha below {median:.4g}, from mean = "
                f"{time_sampling.mean:.4g}, but the data have the deviation {std:.4g}; a usual mean is "
                f"{math.log(USUAL_MEDIAN * std):.2f}, the logarithm of {USUAL_MEDIAN} deviations",
                stacklevel=stacklevel,
            )


def _part(x: Tensor | np.ndarray) -> Tensor:
    """The samples, at equal distances, on which a scale is measured."""
    count = min(MOST_SAMPLES, max(4, MOST_NUMBERS // max(math.prod(x.shape[1:]), 1)))
    return select(x, torch.arange(0, len(x), -(-len(x) // count)))


def _assumed_deviation(prediction: Prediction) -> float | None:
    """The deviation that a prediction scales to 1 where there is no noise; None if its scale is fixed."""
    numbers = (0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (math.inf, 0.0)
    scale = prediction(Level(*(torch.tensor(pair, dtype=torch.float64) for pair in numbers))).scale
    if not isinstance(scale, Tensor) or scale.shape != (2,):
        return None
    clean, noisy = scale.tolist()
    return 1 / clean if clean != noisy and 0 < clean < math.inf else None
