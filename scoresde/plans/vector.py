"""Linear combinations of named vectors, as a solver's formulas form them."""

from collections.abc import Mapping
from dataclasses import dataclass

Row = tuple[tuple[str, float], ...]  # terms: the name of a vector (:mod:`scoresde.plans.names`), its weight


@dataclass(eq=False, slots=True)
class Vector:
    """A linear combination of vectors, given by a weight for each name.

    It adds and scales like a tensor, so that one formula serves both.
    """

    weights: Mapping[str, float]

    def __add__(self, other: "Vector") -> "Vector":
        total = dict(self.weights)
        for name, weight in other.weights.items():
            both = total.get(name, 0.0) + weight
            # Drop exact zeros: otherwise every vector of the run would stay in the last row.
            if isinstance(both, float) and not both:
                total.pop(name, None)
            else:  # a weight may be a tensor with a number for each sample
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
        """The terms whose weight is not zero."""
        return tuple([term for term in self.weights.items() if term[1]])
