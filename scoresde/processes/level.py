"""One noise level of a process."""

import math
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

T = TypeVar("T", float, Tensor)


class Level(NamedTuple, Generic[T]):
    """One noise level: floats in a plan, tensors in training."""

    t: T
    alpha: T
    sigma: T
    lam: T  # log(alpha / sigma), the half log-SNR


CLEAN: Level[float] = Level(0.0, 1.0, 0.0, math.inf)


def per_sample(number: Any, x: Tensor) -> Any:
    """A tensor ``(B,)`` in a shape that broadcasts with x ``(B, ...)``; anything else as it is."""
    if isinstance(number, Tensor) and number.ndim == 1:
        return number.reshape(-1, *[1] * (x.ndim - 1))
    return number


def cast(number: Any, x: Tensor) -> Any:
    """A coefficient computed in float64, in the type of x and on its device; a float as it is."""
    return number.to(x) if isinstance(number, Tensor) else number


def column(weight: Any, like: Tensor) -> Any:
    """A tensor ``(B,)`` in a shape that broadcasts with ``like``, and in its type; a float as it is."""
    return cast(per_sample(weight, like), like)
