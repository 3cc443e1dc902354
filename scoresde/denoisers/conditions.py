"""Conditions of samples: a tensor, or a nested dict, tuple or list of tensors and None.

Each tensor has a row for each sample. A network receives the structure as it is given.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Condition = Any  # a tensor, None, or a nested dict, tuple or list of these
NESTED = (dict, list, tuple)  # a tuple, not a union, which torch.compile does not follow

SIGNED = (torch.int64, torch.int32, torch.int16, torch.int8)

INTEGERS = (*SIGNED, torch.uint64, torch.uint32, torch.uint16, torch.uint8)


def mapped(f: Callable[..., Any], cond: Condition, *others: Condition) -> Any:
    """The structure of ``cond`` with f of each tensor; f receives the tensors of ``others`` in its place too.

    The others have the structure of ``cond`` (:func:`alike`).
    """
    if isinstance(cond, dict):
        return {key: mapped(f, part, *(other[key] for other in others)) for key, part in cond.items()}
    if isinstance(cond, NESTED):
        parts = [mapped(f, *part) for part in zip(cond, *others, strict=True)]
        return type(cond)(*parts) if hasattr(cond, "_fields") else type(cond)(parts)
    return None if cond is None else f(cond, *others)


def rows_of(cond: Condition, index: slice | Tensor) -> Condition:
    """The conditions of some samples."""
    return mapped(lambda tensor: tensor[index], cond)


def in_turn(cond: Condition, ids: Tensor) -> Condition:
    """The conditions of samples by number: of K conditions, sample i has condition i mod K."""
    return mapped(lambda tensor: tensor[ids % len(tensor)], cond)


def moved(cond: Condition, device: torch.device | str) -> Condition:
    """The conditions on a device."""
    return mapped(lambda tensor: tensor.to(device), cond)


def joined(*conds: Condition) -> Condition:
    """The conditions of several batches as those of one batch; their structures are equal (:func:`alike`)."""
    return mapped(lambda *tensors: torch.cat(tensors), *conds)


def leaves(cond: Condition, path: str = "cond") -> Iterator[tuple[str, Any]]:
    """Each part that is not a dict, tuple or list, with its path, such as ``cond['text'][0]``."""
    if isinstance(cond, NESTED):
        for key, part in cond.items() if isinstance(cond, dict) else enumerate(cond):
            yield from leaves(part, f"{path}[{key!r}]")
    else:
        yield path, cond


def alike(a: Condition, b: Condition) -> bool:
    """Do they have one structure, with tensors of one type and, beyond the first dimension, one shape?"""
    return [*map(_kind, leaves(a))] == [*map(_kind, leaves(b))]


def _kind(leaf: tuple[str, Any]) -> tuple[Any, ...]:
    path, value = leaf
    return (path, value.shape[1:], value.dtype) if isinstance(value, Tensor) else (path,)


def check_rows(cond: Condition, samples: int) -> None:
    """Check that each part is None or a tensor with a row for each sample.

    Raises:
        TypeError: a part of another type.
        ValueError: another number of rows.
    """
    for path, value in leaves(cond):
        if not (value is None or isinstance(value, Tensor)):
            raise TypeError(f"{path} must be a tensor, got {type(value).__name__}")
        if value is not None and value.shape[:1] != (samples,):
            raise ValueError(
                f"{path} must hold {samples} conditions, one for every sample, got shape {tuple(value.shape)}"
            )


def labels(cond: Tensor, classes: int, path: str = "cond") -> Tensor:
    """Labels ``(B,)`` of any integer type as int64; ValueError unless all are in [0, ``classes``]."""
    if cond.ndim != 1 or cond.dtype not in INTEGERS:
        raise ValueError(
            f"{path} must hold labels, integers of shape ({len(cond)},), for a network of {classes} classes, "
            f"got shape {tuple(cond.shape)} of {cond.dtype}"
        )
    cond = cond.long()
    if not classes:
        raise ValueError(f"{path} was given, but the network has no classes")
    if not (int(cond.min()) >= 0 and int(cond.max()) <= classes):
        raise ValueError(
            f"{path} must hold labels in [0, {classes}], {classes} for no class, got {int(cond.min())} to "
            f"{int(cond.max())}"
        )
    return cond
