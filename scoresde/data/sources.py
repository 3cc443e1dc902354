"""Data sets by name or path."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .archives import read_npy, read_npz
from .folder import read_folder
from .hugging_face import read_hugging_face
from .pixels import Size, check_options, pixels
from .reading import Array


class Data(NamedTuple):
    """Samples, and their classes.

    Attributes:
        x: uint8 images ``(N, C, H, W)``, float images in [-1, 1], or vectors ``(N, D)``.
        labels: ``(N,)`` integers, or None.
        names: of the classes, by number, or None where the source has none.
    """

    x: Tensor
    labels: Tensor | None
    names: tuple[str, ...] | None = None


def load_data(
    source: str | Path,
    images: str = "",
    labels: str = "",
    split: str = "train",
    *,
    size: Size = None,
    mode: str = "",
    crop: bool | str = False,
    unreadable: str = "error",
    max_bytes: int = 2**32,
    progress: bool = False,
) -> Data:
    """Read a data set into memory.

    Args:
        source: ``"digits"`` (the 8x8 digits of scikit-learn), a ``.npy`` or ``.npz`` file, a folder of images
            (several folders directly in it are the classes; see :func:`scoresde.data.folder.read_folder`), or
            ``"hf:NAME"`` for a Hugging Face data set.
        images: name of the array in a ``.npz`` file, or of the column of a Hugging Face data set.
        labels: the same for the labels; empty for none.
        split: of a Hugging Face data set.
        size: height and width of the images after scaling, or one number for both; None keeps the size.
        mode: mode of the images after conversion, ``"L"``, ``"LA"``, ``"RGB"`` or ``"RGBA"``; ``""`` keeps
            the mode of each image (see :func:`scoresde.data.pixels.pixels`).
        crop: keep the middle of images with another aspect ratio; otherwise they are stretched to ``size``.
        unreadable: ``"error"``, or ``"skip"`` to leave out images that cannot be read, with a warning.
        max_bytes: largest size in memory of an array of a ``.npz`` file; the size of the file is always
            allowed.
        progress: show a bar where reading images takes more than two seconds.

    Raises:
        TypeError: a side or ``max_bytes`` that is not an integer.
        ValueError: no such source or array; data of another shape, type or range than in :class:`Data`; files
            that cannot be read; an option that the source does not use.
    """
    source = str(source)
    check_options(size, mode, crop, unreadable, max_bytes)
    show = partial(pixels, mode=mode, size=size, crop=crop)
    kind = _kind(source)
    _refuse_unused(source, kind, images, labels, split, size, mode)
    x: Array
    classes: Array | None = None
    names = None
    if kind == "digits":
        return _digits()
    if kind == "hf":
        column = images or "image"
        x, classes, names = read_hugging_face(source[3:], column, labels, split, show, unreadable, progress)
    elif kind == "folder":
        x, classes, names = read_folder(Path(source), show, unreadable, progress)
    elif kind == ".npz":
        x, classes = read_npz(Path(source), images, labels, max_bytes)
    else:
        x = read_npy(Path(source))
    return _checked(x, classes, names, source)


def _kind(source: str) -> str:
    """``"hf"``, ``"digits"``, ``"folder"``, ``".npz"`` or ``".npy"``; ValueError for anything else."""
    path = Path(source)
    if source.startswith("hf:"):
        return "hf"
    if source == "digits":
        return "digits"
    if source and path.is_dir():
        return "folder"
    if path.suffix in (".npy", ".npz") and path.is_file():
        return path.suffix
    raise ValueError(
        f"data source must be 'digits', 'hf:NAME', a .npy or .npz file or a folder, got {source!r}"
    )


def _refuse_unused(
    source: str, kind: str, images: str, labels: str, split: str, size: Size, mode: str
) -> None:
    if (images or labels) and kind not in ("hf", ".npz"):
        raise ValueError(
            f"{source} has no named arrays: images and labels must be empty, got {images!r}, {labels!r}"
        )
    if split != "train" and kind != "hf":
        raise ValueError(f"{source} has no splits: split is for data sets of Hugging Face, got {split!r}")
    if (size is not None or mode) and kind not in ("hf", "folder"):
        raise ValueError(
            f"{source} holds numbers, not images to convert: size and mode must be empty, "
            f"got {size} and {mode!r}"
        )


def _digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    shades = (digits.images * (255 / 16)).round().astype(np.uint8)  # from 0..16
    return Data(torch.from_numpy(shades[:, None]), torch.from_numpy(digits.target.astype(np.int64)))


def _checked(x: Array, labels: Array | None, names: tuple[str, ...] | None, source: str) -> Data:
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise ValueError(f"{source} must hold uint8 or floating point numbers, got {x.dtype}")
    if x.ndim == 3:  # images of one channel
        x = x[:, None]
    if x.ndim not in (2, 4) or not x.size:
        raise ValueError(f"{source} must hold (N, D), (N, H, W) or (N, C, H, W) numbers, got shape {x.shape}")
    if x.ndim == 4 and x.shape[1] not in (1, 2, 3, 4) and x.shape[3] in (1, 2, 3, 4):  # channels last
        x = np.moveaxis(x, 3, 1)
    if x.dtype.kind == "f":
        low, high = x.min(), x.max()
        with np.errstate(over="ignore", invalid="ignore"):
            x = x.astype(np.float32)
        # After the cast: 1e300 is not finite in float32.
        if not np.isfinite(x).all() or (x.ndim == 4 and not -1 <= x.min() <= x.max() <= 1):
            raise ValueError(
                f"{source}: float images must be in [-1, 1] and vectors finite in float32, "
                f"got {low} to {high}"
            )
    if labels is not None:
        if labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{source}: labels must be {len(x)} integers, got shape {labels.shape} of {labels.dtype}"
            )
        if labels.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{source}: labels must fit 64 bits with a sign, got {labels.max()}")
    return Data(
        torch.from_numpy(np.ascontiguousarray(x)),
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
        names,
    )
