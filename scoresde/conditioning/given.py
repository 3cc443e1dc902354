"""A denoiser under one condition, and one denoiser under several conditions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition, alike, joined, leaves, mapped
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser, checked
from ..integer import integer
from ..processes.level import Level


class Given(Wrapper):
    """E[x_0 | x_t, c] for one condition c of all samples; the condition of a call is not used.

    Args:
        denoiser: the denoiser.
        cond: c: a label; a condition with one row, ``(1, ...)``, or a nested structure of these; None for a
            call without a condition. Tensors that are not on the device of the run are copied there at each
            call.

    Raises:
        TypeError: something else.
        ValueError: a label out of range, or for a denoiser without classes; a tensor of more rows.
    """

    def __init__(self, denoiser: DenoiserLike, cond: Condition) -> None:
        self.denoiser = as_denoiser(denoiser)
        if not (cond is None or isinstance(cond, Tensor | dict | list | tuple)):
            cond = integer("cond", cond)
            if not self.denoiser.classes:
                raise ValueError(f"a label is for a denoiser with classes, which this is not, got {cond}")
            checked(self.denoiser, torch.tensor([cond]))
            self.cond = cond
            return
        for path, value in leaves(cond):
            if not (value is None or isinstance(value, Tensor)):
                raise TypeError(f"{path} must be a tensor, got {type(value).__name__}")
            if value is not None and value.shape[:1] != (1,):
                raise ValueError(
                    f"{path} must hold one condition for all samples, (1, ...), got {tuple(value.shape)}"
                )
        self.cond = checked(self.denoiser, cond)

    @property
    def classes(self) -> None:
        """None: the condition of a call is not used."""

    def checked(self, cond: Condition, path: str = "cond") -> Condition:
        """The condition as given: it is not used."""
        return cond

    def at(self, dtype: torch.dtype | None) -> "Given":
        """The denoiser inside in another precision, under the same condition."""
        return Given(self.denoiser.at(dtype), self.cond)

    def of(self, x: Tensor) -> Condition:
        """The condition, with a row for each sample of x ``(B, ...)``."""
        if isinstance(self.cond, int):
            return torch.full((len(x),), self.cond, device=x.device)
        return mapped(lambda one: one.to(x.device).expand(len(x), *one.shape[1:]), self.cond)

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        return self.denoiser(x, level, self.of(x))


def estimates(
    denoiser: DenoiserLike, x: Tensor, level: Level[Any], conds: Sequence[Condition], together: bool
) -> Sequence[Tensor]:
    """The estimates of one denoiser under several conditions.

    Args:
        denoiser: the denoiser.
        x: states ``(B, ...)``.
        level: floats, or tensors ``(B,)``.
        conds: n conditions, each with a row for each sample.
        together: make one call with n B rows, if the conditions can be joined; else n calls.

    Returns:
        n tensors like x, each new memory or a part of it.
    """
    n = len(conds)
    if together and n > 1 and all(alike(conds[0], cond) for cond in conds):
        both = denoiser(torch.cat([x] * n), _repeated(level, n), joined(*conds))
        return both.chunk(n)
    # A denoiser may write to its input.
    return [denoiser(x if i == n - 1 else x.clone(), level, cond) for i, cond in enumerate(conds)]


def _repeated(level: Level[Any], n: int) -> Level[Any]:
    """The level of n copies of a batch."""

    def repeated(number: Any) -> Any:
        own = isinstance(number, Tensor) and number.ndim and len(number) > 1
        return torch.cat([number] * n) if own else number

    return Level(*map(repeated, level))
