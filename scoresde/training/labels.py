"""Class labels of training data."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..denoisers.network import Denoiser

NAMED = 10  # classes that an error lists
WITHOUT_MIN = (torch.uint16, torch.uint32, torch.uint64)  # types for which torch has no min()


class Labels(NamedTuple):
    """The classes that a network was trained on, and their names."""

    seen: tuple[int, ...]
    names: tuple[str, ...] = ()


def labels_of(labels: Tensor | None, names: Sequence[str] | None = None) -> Labels | None:
    """The classes in the labels ``(N,)`` of training data; None without labels."""
    return None if labels is None else Labels(tuple(_classes(labels)), tuple(names or ()))


def as_labels(labels: Any) -> Tensor | None:
    """Labels, a tensor or an array of integers, as a tensor; None stays None.

    Raises:
        TypeError: neither a tensor nor an array.
        ValueError: an array of another type than integers.
    """
    if labels is None:
        return None
    if isinstance(labels, Tensor):
        return labels.long() if labels.dtype in WITHOUT_MIN else labels
    if not isinstance(labels, np.ndarray):
        raise TypeError(f"labels must be a tensor or an array of integers, got {type(labels).__name__}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, got an array of {labels.dtype}")
    return torch.from_numpy(labels.astype(np.int64))


def in_proportion(labels: Tensor, count: int) -> Tensor:
    """``count`` of the labels ``(N,)`` of the data, with their proportions in every part of the result.

    They are the labels at the places of multiples of the golden ratio, modulo 1, in the sorted list.
    """
    place = (torch.arange(count, dtype=torch.float64) * ((math.sqrt(5) - 1) / 2) + 0.5) % 1
    return labels.cpu().long().sort().values[(place * len(labels)).long()]


def check_labels(denoiser: Denoiser, x: Any, labels: Tensor | None, *, allow_missing: bool = False) -> None:
    """Refuse data and labels that do not fit the network.

    Args:
        denoiser: its ``classes`` is the number of classes; None or 0 for a network without labels.
        x: the data, ``(N, ...)``.
        labels: ``(N,)`` integers in [0, classes).
        allow_missing: labels need not cover all classes.

    Raises:
        ValueError: empty data; a network with classes and data without labels, or the reverse; labels of
            another number, type or range; classes without a label.
    """
    classes = denoiser.classes or 0
    if not len(x):
        raise ValueError("the data set is empty")
    if labels is None:
        if classes:
            raise ValueError(
                f"the network has {classes} classes, but the data have no labels; give labels, or make the "
                f"network with classes=0"
            )
        return
    if labels.shape != (len(x),) or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels must be {len(x)} integers, one for every sample, "
            f"got shape {tuple(labels.shape)} of {labels.dtype}"
        )
    if not classes:
        raise ValueError("labels were given, but the network has no classes")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels must be in [0, {classes}), got {int(labels.min())} to {int(labels.max())}")
    missing = sorted(set(range(classes)) - set(_classes(labels)))
    if missing and not allow_missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ValueError(
            f"no sample has the label {', '.join(map(str, missing[:NAMED]))}{more}, but the network has "
            f"{classes} classes; make it with the number of classes in the data, or set "
            f"optimization.allow_missing_classes"
        )


def _classes(labels: Tensor) -> list[int]:
    classes: list[int] = torch.unique(labels).tolist()
    return classes
