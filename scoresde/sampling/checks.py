"""What is asked of a run, checked before its network is called."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..denoisers.protocol import DenoiserLike
from ..integer import integer
from ..plans.plan import Plan
from ..solvers.integrators.base import Integration

SIGNED = (torch.int64, torch.int32, torch.int16, torch.int8)


INTEGERS = (*SIGNED, torch.uint64, torch.uint32, torch.uint16, torch.uint8)


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
    """The number of samples at a time."""
    try:
        return min(samples if batch_size is None else integer("batch_size", batch_size, 1), samples)
    except (TypeError, ValueError):
        raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}") from None


def check_tensors(shape: tuple[int, ...], ids: Any, x: Any, dtype: Any) -> None:
    """TypeError or ValueError unless ids and start fit a run of this shape and type."""
    for name, value in {"ids": ids, "x": x}.items():
        _check_tensor(name, value)
    if ids is not None and (ids.shape != shape[:1] or ids.dtype not in INTEGERS):
        raise ValueError(f"ids must be {shape[0]} integers, got shape {tuple(ids.shape)} of {ids.dtype}")
    if x is not None and x.shape != shape:
        raise ValueError(f"x must have the shape {shape}, got {tuple(x.shape)}")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be float32 or float64, which the state needs, got {dtype}")


def conditions(cond: Any, samples: int, classes: int | None) -> Tensor | None:
    """The condition of each sample as a network with so many ``classes`` takes it: int64 labels.

    Where ``classes`` is None, the condition as it is.
    """
    _check_tensor("cond", cond)
    if cond is None:
        return None
    if cond.shape[:1] != (samples,):
        raise ValueError(
            f"cond must hold {samples} conditions, one for every sample, got shape {tuple(cond.shape)}"
        )
    return cond if classes is None else labels(cond, classes)


def labels(cond: Tensor, classes: int) -> Tensor:
    """Labels ``(B,)`` of any integer type as int64; ValueError unless each is in [0, ``classes``]."""
    if cond.ndim != 1 or cond.dtype not in INTEGERS:
        raise ValueError(
            f"cond must hold labels, integers of shape ({len(cond)},), for a network of {classes} classes, "
            f"got shape {tuple(cond.shape)} of {cond.dtype}"
        )
    cond = cond.long()
    if not classes:
        raise ValueError("cond was given, but the network has no classes")
    if not (int(cond.min()) >= 0 and int(cond.max()) <= classes):
        raise ValueError(
            f"cond must hold labels in [0, {classes}], {classes} for no class, got {int(cond.min())} to "
            f"{int(cond.max())}"
        )
    return cond


def check_prediction(denoiser: DenoiserLike, run: Plan | Integration) -> None:
    """Refuse levels at which x_0 cannot be computed from the network's prediction."""
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


def _check_tensor(name: str, value: Any) -> None:
    if not (value is None or isinstance(value, Tensor)):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
