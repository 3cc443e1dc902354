"""Exact denoisers: of a mixture, and of its posteriors."""

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from ..processes.level import Level
from ..processes.sde import SDE
from .conditions import Condition
from .full_mixture import Conditional, FullMixture
from .mixture import Mixture


class ClosedForm:
    """The parts of a denoiser without a network."""

    @property
    def net(self) -> None:
        """None: it has no network."""

    @property
    def classes(self) -> None:
        """None: it takes no labels."""

    @property
    def dtype(self) -> None:
        """None: it computes in the precision of x."""

    def at(self, dtype: torch.dtype | None) -> Self:
        """Itself for None; a TypeError for a precision, for it computes in the precision of x."""
        if dtype is not None:
            kind = type(self).__name__
            raise TypeError(f"{kind} has no network, and computes in the precision of x, got {dtype}")
        return self


@dataclass(frozen=True, eq=False)
class ExactDenoiser(ClosedForm):
    """The denoiser of a mixture under an SDE, a closed form; it takes no condition.

    Args:
        mixture: the data.
        sde: the process.
    """

    mixture: Mixture | FullMixture
    sde: SDE

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        return self.mixture.denoise(x, level)


@dataclass(frozen=True, eq=False)
class ExactPosterior(ClosedForm):
    """E[x_0 | x_t, y] of a mixture under an SDE, for y = A x_0 + tau n; its condition is y, ``(B, m)``.

    For one y of all samples, ``ExactDenoiser(mixture.condition(operator, y, tau), sde)`` is the same.

    Args:
        mixture: the data.
        sde: the process.
        operator: A; see :meth:`FullMixture.given`.
        tau: the deviation of the noise, at least 0.

    Raises:
        ValueError: those of :meth:`FullMixture.given`; later, another condition.
    """

    mixture: Mixture | FullMixture
    sde: SDE
    operator: Any
    tau: float
    posteriors: Conditional = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mixture = self.mixture.full() if isinstance(self.mixture, Mixture) else self.mixture
        object.__setattr__(self, "posteriors", mixture.given(self.operator, self.tau))

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        if not isinstance(cond, Tensor) or len(cond) != len(x):
            raise ValueError(f"cond must be y, a row for each of {len(x)} samples, got {type(cond).__name__}")
        return self.posteriors(cond.to(x)).denoise(x, level)
