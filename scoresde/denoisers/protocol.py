"""What a denoiser is, and one that counts its calls."""

from typing import Any, Protocol

from torch import Tensor

from ..processes.level import Level
from ..processes.sde import SDE


class DenoiserLike(Protocol):
    """What is sampled from: a :class:`Denoiser`, or anything that has its SDE and estimates x_0."""

    @property
    def sde(self) -> SDE: ...

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor: ...


class Counted:
    """A denoiser that counts its calls, and, where samples are asked for one by one, what was asked for.

    ``calls`` are the network's, whatever their batch; ``evaluations`` its estimates, each of one sample at
    one level. Over the number of samples, ``evaluations`` is the mean number of calls a sample; the most that
    one of them had is ``calls``, of one batch that all begin together.
    """

    def __init__(self, denoiser: DenoiserLike) -> None:
        self.denoiser, self.calls, self.evaluations = denoiser, 0, 0

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        self.count(x)
        return self.denoiser(x, level, cond)

    def __fingerprint__(self) -> Any:
        return self.denoiser

    def count(self, x: Tensor) -> None:
        """One call, at the points x."""
        self.calls += 1
        self.evaluations += len(x)
