"""What every solver samples from: an estimate of the data, with what is known of it."""

from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ..processes.level import Level
from ..processes.sde import SDE


class DenoiserLike(Protocol):
    """E[x_0 | x_t] under a process. A wrapper takes one and is one: everything conditional is a wrapper.

    A call takes x ``(B, ...)``, a level of floats or of tensors ``(B,)``, and a condition ``(B, ...)`` if
    there is one; it returns a tensor like x.
    """

    @property
    def sde(self) -> SDE:
        """The process whose levels it takes."""
        ...

    @property
    def net(self) -> Callable[..., Any] | None:
        """The network inside; None for a closed form."""
        ...

    @property
    def classes(self) -> int | None:
        """The number of classes of its labels; None if it takes no labels, or other conditions."""
        ...

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the network; None where it runs in that of x."""
        ...

    def at(self, dtype: torch.dtype | None) -> "DenoiserLike":
        """The same denoiser with its network in another precision. The network itself is shared."""
        ...

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor: ...


class Wrapper:
    """A denoiser around another: it hands on all that it does not change. A subclass states ``at``."""

    denoiser: DenoiserLike

    @property
    def sde(self) -> SDE:
        """The process of the wrapped denoiser."""
        return self.denoiser.sde

    @property
    def net(self) -> Callable[..., Any] | None:
        """The network of the wrapped denoiser."""
        return self.denoiser.net

    @property
    def classes(self) -> int | None:
        """The number of classes of the wrapped denoiser."""
        return self.denoiser.classes

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the wrapped denoiser."""
        return self.denoiser.dtype


class Observed(Wrapper):
    """A denoiser whose calls are observed: ``before(x, level)`` and ``after(x, level, estimate)`` each call.

    It changes no number, so its fingerprint is that of the denoiser inside.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        after: Callable[[Tensor, Level[Any], Tensor], object],
        before: Callable[[Tensor, Level[Any]], object] | None = None,
    ) -> None:
        self.denoiser, self._after, self._before = denoiser, after, before

    def at(self, dtype: torch.dtype | None) -> "Observed":
        """The denoiser inside in another precision, observed by the same functions."""
        return Observed(self.denoiser.at(dtype), self._after, self._before)

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        if self._before is not None:
            self._before(x, level)
        estimate = self.denoiser(x, level, cond)
        self._after(x, level, estimate)
        return estimate

    def __fingerprint__(self) -> Any:
        return self.denoiser


class Counted(Observed):
    """A denoiser that counts its calls and its evaluations.

    ``calls`` counts the calls of the network, whatever their batch. ``evaluations`` counts its estimates: one
    for each sample of each call. Over the number of samples, ``evaluations`` is the mean number of calls a
    sample. In one batch that begins together, ``calls`` is the largest number of calls of a sample.
    """

    def __init__(self, denoiser: DenoiserLike) -> None:
        super().__init__(denoiser, self._count)
        self.calls = self.evaluations = 0

    def at(self, dtype: torch.dtype | None) -> "Counted":
        """The denoiser inside in another precision, counted from 0."""
        return Counted(self.denoiser.at(dtype))

    def _count(self, x: Tensor, level: Level[Any], estimate: Tensor) -> None:
        self.calls += 1
        self.evaluations += len(x)


class Foreign:
    """Any callable ``(x, level[, cond]) -> estimate`` as a denoiser of ``sde``, in the precision of x."""

    net = None
    classes = None
    dtype = None

    def __init__(self, estimate: Callable[..., Tensor], sde: SDE) -> None:
        self.estimate, self.sde = estimate, sde

    def at(self, dtype: torch.dtype | None) -> Self:
        """TypeError unless ``dtype`` is None: nothing is known of its network."""
        if dtype is not None:
            raise TypeError(
                f"{type(self.estimate).__name__} has no at(dtype): its precision cannot be changed"
            )
        return self

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        return self.estimate(x, level) if cond is None else self.estimate(x, level, cond)

    def __fingerprint__(self) -> Any:
        return self.estimate


PARTS = ("sde", "net", "classes", "dtype", "at")


def as_denoiser(given: Any) -> DenoiserLike:
    """``given`` if it follows :class:`DenoiserLike`; a callable with an ``sde`` alone becomes a :class:`Foreign`.

    Raises:
        TypeError: it is not callable, or has no ``sde``.
    """
    if callable(given) and not isinstance(given, type):
        if all(hasattr(given, part) for part in PARTS):
            denoiser: DenoiserLike = given
            return denoiser
        if isinstance(sde := getattr(given, "sde", None), SDE):
            return Foreign(given, sde)
    raise TypeError(f"denoiser must be a Denoiser, or like one with its sde, got {type(given).__name__}")


def unobserved(denoiser: DenoiserLike) -> DenoiserLike:
    """The denoiser inside of those that only observe."""
    return unobserved(denoiser.denoiser) if isinstance(denoiser, Observed) else denoiser
