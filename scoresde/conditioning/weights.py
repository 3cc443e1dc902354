"""The weight of a condition: a number, or a function of the noise level."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..processes.level import Level
from ..registry import as_floats

Weight = float | Callable[[Level[Any]], Any]


def weight_of(name: str, given: Any) -> Weight:
    """A weight as it is, if it is a function; else as a float.

    Raises:
        TypeError: neither a function nor a number.
        ValueError: a number that is not finite.
    """
    if callable(given):
        weight: Weight = given
        return weight
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or a function of the level, got {given!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {given!r}")
    return number


def weight_at(weight: Weight, level: Level[Any]) -> Any:
    """The weight at a level: a float; a tensor like the level's tensors from a function of these."""
    return weight(level) if callable(weight) else weight


@dataclass(frozen=True)
class Interval:
    """A weight for sigma / alpha in (low, high], and the weight 1 elsewhere.

    With an edge the weight is 1 + g (weight - 1) with g = S((log s - log low) / edge) S((log high - log s) /
    edge), s = sigma / alpha, S(z) = 1 / (1 + exp(-z)). A hard end saves the second network call outside, but
    it is a jump in the equation, and every solver has order 1 there. With an edge a solver keeps its order.
    Kynkäänniemi et al. 2024 (arXiv 2404.07724) have hard ends.

    Args:
        weight: inside; a number or a function of the level.
        low: the least sigma / alpha, from 0.
        high: the largest sigma / alpha, above ``low``; infinity for no end.
        edge: the width of the two ends in log sigma, from 0; 0 for hard ends. With 0.15 the order of a solver
            shows from 20 calls on.

    Raises:
        TypeError: a weight that is neither a number nor a function.
        ValueError: a weight that is not finite; ``low`` not below ``high``; a negative ``low`` or ``edge``.
    """

    weight: Weight
    low: float = 0.0
    high: float = math.inf
    edge: float = 0.0

    def __post_init__(self) -> None:
        as_floats(self, "low", "high", "edge")
        object.__setattr__(self, "weight", weight_of("weight", self.weight))
        if not 0 <= self.low < self.high:
            raise ValueError(f"low and high must be 0 <= low < high, got {self.low!r} and {self.high!r}")
        if not 0 <= self.edge < math.inf:
            raise ValueError(f"edge must be finite and not negative, got {self.edge!r}")

    def __call__(self, level: Level[Any]) -> Any:
        """The weight at a level of floats, or of tensors of any shape."""
        inside, noise = 1.0, -level.lam
        if self.low > 0:
            inside *= self._above(noise - math.log(self.low))
        if self.high < math.inf:
            inside *= 1 - self._above(noise - math.log(self.high))
        # Where inside is 1 or 0 this is the weight or 1 to the last bit.
        return inside * weight_at(self.weight, level) + (1 - inside)

    def _above(self, z: Any) -> Any:
        """S(z / edge), or for hard ends 1 if z > 0 and 0 otherwise."""
        if not self.edge:
            return (z > 0).to(z.dtype) if isinstance(z, Tensor) else float(z > 0)
        return (1 + (torch if isinstance(z, Tensor) else math).tanh(z / (2 * self.edge))) / 2
