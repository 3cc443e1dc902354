"""Rows of weights, and what they sum to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Row = tuple[tuple[str, float], ...]


@dataclass(eq=False, slots=True)
class Vector:
    """A linear combination of named vectors: states x0, x1, ..., what is held h0, ..., network outputs
    d0, ..., noise z0, ...."""

    weights: Mapping[str, float]

    def __add__(self, other: "Vector") -> "Vector":
        total = dict(self.weights)
        for name, weight in other.weights.items():
            both = total.get(name, 0.0) + weight
            if isinstance(both, float) and not both:  # or a run's vectors would pile up in those of its end
                total.pop(name, None)
            else:  # a tensor, where each sample has weights of its own
                total[name] = both
        return Vector(total)

    def __mul__(self, factor: float) -> "Vector":
        return Vector({name: factor * weight for name, weight in self.weights.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Vector":
        return Vector({name: weight / divisor for name, weight in self.weights.items()})

    def __neg__(self) -> "Vector":
        return -1.0 * self

    def __sub__(self, other: "Vector") -> "Vector":
        return self + -other

    @property
    def row(self) -> Row:
        """The weights that are not zero."""
        return tuple([term for term in self.weights.items() if term[1]])


def summed(row: Row, live: Mapping[str, Any], out: Tensor | None = None) -> Any:
    """The sum of a row, something new or in ``out``."""
    (name, weight), *rest = row
    total = live[name]
    if isinstance(total, Tensor) and weight == 1 and rest:
        (name, weight), *rest = rest
        total = torch.add(total, live[name], alpha=weight, out=out)
    elif isinstance(total, Tensor) and 0.5 < weight < 2:
        # The factor's rounding is one of weight - 1: in float32 equal steps do not repeat that of a factor.
        total = torch.add(total, total, alpha=weight - 1, out=out)
    elif isinstance(total, Tensor):
        total = torch.mul(total, weight, out=out)
    else:
        total = weight * total
    for name, weight in rest:
        if isinstance(total, Tensor):
            total.add_(live[name], alpha=weight)
        else:
            total = total + weight * live[name]
    return total


def langevin(row: Row, score: Row, snr: float, live: Mapping[str, Any]) -> Any:
    """The value of a line whose step is sized by norms: the last of its row is the noise."""
    *state, (noise, _) = row
    x, slope = summed(tuple(state), live), summed(score, live)
    z = live[noise]
    step = 2 * (snr * _mean_norm(z) / _mean_norm(slope)) ** 2
    return x + step * slope + (2 * step).sqrt() * z


def _mean_norm(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norms.mean()
