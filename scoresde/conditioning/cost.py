"""What one estimate of a conditioned denoiser costs."""

from typing import NamedTuple

from ..denoisers.protocol import DenoiserLike, Wrapper
from ..processes.level import Level


class Cost(NamedTuple):
    """Network calls and vector-Jacobian products of one estimate, for each sample.

    Two evaluations in one batch are two calls. A vector-Jacobian product is one backward pass.
    """

    calls: int
    vjps: int

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(self.calls + other.calls, self.vjps + other.vjps)


def cost_at(denoiser: DenoiserLike, level: Level[float]) -> Cost:
    """The cost of one estimate at a level: as the denoiser's ``cost(level)`` states, or of one call.

    A :class:`Wrapper` without ``cost`` costs as much as the denoiser inside.
    """
    stated = getattr(denoiser, "cost", None)
    if stated is not None:
        cost: Cost = stated(level)
        return cost
    return cost_at(denoiser.denoiser, level) if isinstance(denoiser, Wrapper) else Cost(1, 0)
