"""The protocol of a denoiser, which all solvers sample from, and the wrappers that follow it."""

from collections.abc import Callable
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ..processes.level import Level
from ..processes.sde import SDE
from .conditions import Condition, labels
from .unwrapped import classes_of


class DenoiserLike(Protocol):
    """E[x_0 | x_t] under a process. A condition is a denoiser around another denoiser.

    A call takes x ``(B, ...)``, a level of floats or of tensors ``(B,)``, and a condition: a tensor
    ``(B, ...)``, None, or a nested dict, tuple or list of these. It returns a tensor like x.
    """

    @property
    def sde(self) -> SDE:
        """The process whose levels a call takes."""
        ...

    @property
    def net(self) -> Callable[..., Any] | None:
        """The network inside; None for a closed form."""
        ...

    @property
    def classes(self) -> int | None:
        """The number of classes, if the condition is a label of a class; None otherwise."""
        ...

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision in which the network runs; None if it runs in the precision of x."""
        ...

    def at(self, dtype: torch.dtype | None) -> "DenoiserLike":
        """The same denoiser in another precision. It shares the network, and changes nothing in it."""
        ...

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor: ...


class Wrapper:
    """A denoiser around another. Each part that it does not change is the part of the denoiser inside.

    A subclass sets ``denoiser`` and defines ``at`` and ``__call__``; one whose condition is not that of the
    denoiser inside defines ``checked`` too.
    """

    denoiser: DenoiserLike

    @property
    def sde(self) -> SDE:
        """The process of the denoiser inside."""
        return self.denoiser.sde

    @property
    def net(self) -> Callable[..., Any] | None:
        """The network of the denoiser inside."""
        return self.denoiser.net

    @property
    def classes(self) -> int | None:
        """The number of classes of the denoiser inside."""
        return self.denoiser.classes

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the denoiser inside."""
        return self.denoiser.dtype

    def checked(self, cond: Condition, path: str = "cond") -> Condition:
        """The condition as a call takes it, checked; ``path`` names it in errors. See :func:`checked`."""
        return checked(self.denoiser, cond, path)


class Watched(Wrapper):
    """A denoiser that reports its calls: ``before(x, level)`` and ``after(x, level, estimate)`` at each call.

    It changes no number, so its fingerprint is the fingerprint of the denoiser inside.

    Args:
        denoiser: the denoiser to watch.
        after: receives the arguments and the result of each call.
        before: receives the arguments of each call, before it.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        after: Callable[[Tensor, Level[Any], Tensor], object],
        before: Callable[[Tensor, Level[Any]], object] | None = None,
    ) -> None:
        self.denoiser, self._after, self._before = as_denoiser(denoiser), after, before

    def at(self, dtype: torch.dtype | None) -> "Watched":
        """The denoiser inside in another precision, watched by the same functions."""
        return self.around(self.denoiser.at(dtype))

    def around(self, denoiser: DenoiserLike) -> "Watched":
        """Another denoiser, watched by the same functions: its calls count in this object."""
        return Watched(denoiser, self._after, self._before)

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        if self._before is not None:
            self._before(x, level)
        estimate = self.denoiser(x, level, cond)
        self._after(x, level, estimate)
        return estimate

    def __fingerprint__(self) -> Any:
        return self.denoiser


class Counted(Watched):
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
    """Any callable ``(x, level[, cond]) -> estimate`` as a denoiser, in the precision of x.

    A condition is an argument only where there is one, so a callable without conditions needs no ``cond``.

    Args:
        estimate: the callable.
        sde: the process whose levels it takes.
        net: the network inside, if there is one.
    """

    dtype = None

    def __init__(
        self, estimate: Callable[..., Tensor], sde: SDE, net: Callable[..., Any] | None = None
    ) -> None:
        self.estimate, self.sde, self.net = estimate, sde, net

    @property
    def classes(self) -> int | None:
        """The number of classes of its network."""
        return classes_of(self.net)

    def at(self, dtype: torch.dtype | None) -> Self:
        """Itself for None; a TypeError for a precision, because its precision cannot be changed."""
        if dtype is not None:
            raise TypeError(
                f"{type(self.estimate).__name__} has no at(dtype): its precision cannot be changed"
            )
        return self

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        return self.estimate(x, level) if cond is None else self.estimate(x, level, cond)

    def __fingerprint__(self) -> Any:
        return self.estimate


def checked(denoiser: DenoiserLike, cond: Condition, path: str = "cond") -> Condition:
    """A condition as a denoiser takes it: labels of a network with classes as int64; other things as given.

    Args:
        denoiser: the denoiser; a :class:`Wrapper` checks the condition itself.
        cond: the condition of a run, each tensor with a row for each sample.
        path: names it in errors.

    Raises:
        ValueError: a tensor that holds no labels, for a denoiser with ``classes``.
    """
    if isinstance(denoiser, Wrapper):
        return denoiser.checked(cond, path)
    if denoiser.classes is None or not isinstance(cond, Tensor):
        return cond
    return labels(cond, denoiser.classes, path)


PARTS = ("sde", "net", "classes", "dtype", "at")


def as_denoiser(given: Any) -> DenoiserLike:
    """``given`` if it follows :class:`DenoiserLike`; a :class:`Foreign` if it is a callable with an ``sde``.

    Raises:
        TypeError: it is not callable, or its ``sde`` is not an SDE.
    """
    sde = getattr(given, "sde", None)
    if isinstance(given, type) or not (callable(given) and isinstance(sde, SDE)):
        what = "" if isinstance(given, type) or sde is None else f"; its sde must be an SDE, got {sde!r}"
        kind = type(given).__name__
        raise TypeError(f"denoiser must be a Denoiser, or like one with its sde, got {kind}{what}")
    if all(hasattr(given, part) for part in PARTS):
        denoiser: DenoiserLike = given
        return denoiser
    return Foreign(given, sde, getattr(given, "net", None))


def unwatched(denoiser: DenoiserLike) -> DenoiserLike:
    """The denoiser inside all watchers around it."""
    return unwatched(denoiser.denoiser) if isinstance(denoiser, Watched) else denoiser


def watched_as(denoiser: DenoiserLike, inner: DenoiserLike) -> DenoiserLike:
    """``inner`` with the watchers that are around ``denoiser``."""
    return denoiser.around(watched_as(denoiser.denoiser, inner)) if isinstance(denoiser, Watched) else inner
