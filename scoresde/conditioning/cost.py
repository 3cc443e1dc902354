"""What an estimate costs: network calls, and backward passes through the network, known before a run."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from ..denoisers.protocol import Wrapper
from ..processes.level import Level


class Cost(NamedTuple):
    """A number of network calls, and of vector-Jacobian products of a call, for each sample.

    A product takes about as long as one to two calls.
    """

    calls: int
    vjps: int

    def __add__(self, other: Any) -> "Cost":
        return Cost(self.calls + other[0], self.vjps + other[1])


class Levels(Protocol):
    """Whatever knows the levels of its calls, as a :class:`scoresde.Plan`."""

    @property
    def levels(self) -> Iterable[Level[float]]:
        """The levels at which the denoiser is called."""
        ...


def cost_at(denoiser: Any, level: Level[Any]) -> Cost:
    """The cost of one estimate: the ``cost(level)`` of the outermost wrapper that has one, else one call."""
    if hasattr(denoiser, "cost"):
        cost: Cost = denoiser.cost(level)
        return cost
    return cost_at(denoiser.denoiser, level) if isinstance(denoiser, Wrapper) else Cost(1, 0)


def cost_of(denoiser: Any, plan: Levels) -> Cost:
    """The cost of a run of a plan, for each sample: the sum of :func:`cost_at` over its calls."""
    return sum((cost_at(denoiser, level) for level in plan.levels), Cost(0, 0))
