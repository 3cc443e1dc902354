"""Checks of the arguments of a run before its first network call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..conditioning.cost import cost_at
from ..denoisers.conditions import INTEGERS, Condition, check_rows
from ..denoisers.network import Denoiser
from ..denoisers.protocol import DenoiserLike, checked
from ..integer import integer
from ..plans.plan import Plan
from ..solvers.integrators.base import Integration


def shape_of(shape: Sequence[Any]) -> tuple[int, ...]:
    """The shape of samples as integers; ValueError unless they are positive."""
    try:
        sizes = tuple(integer("shape", size, 1) for size in shape)
    except (TypeError, ValueError):
        sizes = ()
    if not sizes:
        given = tuple(shape) if isinstance(shape, Sequence) else shape
        raise ValueError(f"shape must be positive integers, the number of samples first, got {given}")
    return sizes


def size_of(batch_size: Any, samples: int) -> int:
    """The number of samples in a batch."""
    try:
        return min(samples if batch_size is None else integer("batch_size", batch_size, 1), samples)
    except (TypeError, ValueError):
        raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}") from None


def check_tensors(shape: tuple[int, ...], ids: Any, x: Any, dtype: Any) -> None:
    """TypeError or ValueError unless ``ids`` and ``x`` fit a run of this shape, in a type for states."""
    for name, value in {"ids": ids, "x": x}.items():
        _check_tensor(name, value)
    if ids is not None and (ids.shape != shape[:1] or ids.dtype not in INTEGERS):
        raise ValueError(f"ids must be {shape[0]} integers, got shape {tuple(ids.shape)} of {ids.dtype}")
    if x is not None and x.shape != shape:
        raise ValueError(f"x must have the shape {shape}, got {tuple(x.shape)}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be float32 or float64, which the state needs, got {dtype}")


def conditions(cond: Any, samples: int, denoiser: DenoiserLike) -> Condition:
    """The conditions of the samples as the denoiser takes them: labels of a network with classes as int64."""
    check_rows(cond, samples)
    return checked(denoiser, cond)


def check_prediction(denoiser: DenoiserLike, run: Plan | Integration) -> None:
    """Refuse levels at which the prediction of a :class:`Denoiser` does not determine x_0."""
    if not isinstance(denoiser, Denoiser):
        return
    for level in run.levels if isinstance(run, Plan) else (run.start,):
        try:
            numbers = [number for number in denoiser.prediction(level) if number is not None]
            finite = all(abs(number) < float("inf") for number in numbers)
        except ZeroDivisionError:
            finite = False
        if not finite:
            raise ValueError(
                f"at t = {level.t:.6g}, where alpha = {level.alpha:.3g} and sigma = {level.sigma:.3g}, this "
                f"prediction says nothing of the data; clip the SDE, or use a velocity or data prediction"
            )


def check_no_products(denoiser: DenoiserLike, run: Plan | Integration, what: str) -> None:
    """ValueError if an estimate needs derivatives of the network, which a compiled run does not take."""
    if cost_at(denoiser, run.start).vjps:
        raise ValueError(
            f"{what} is not for estimates with derivatives of the network; compile the network itself"
        )


def _check_tensor(name: str, value: Any) -> None:
    if not (value is None or isinstance(value, Tensor)):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
