"""Data by name or path."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.generic]

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


class Data(NamedTuple):
    """x: uint8 images ``(N, C, H, W)``, or float ones in [-1, 1], or vectors ``(N, D)``; labels ``(N,)``."""

    x: Tensor
    labels: Tensor | None


def load_data(source: str, images: str = "", labels: str = "", split: str = "train") -> Data:
    """Read a data set into memory.

    Args:
        source: ``"digits"`` (scikit-learn's 8x8 digits), a ``.npy`` or ``.npz`` file, a folder of images (the
            names of its sub-folders, if there are several, are the classes), or ``"hf:NAME"`` for a Hugging
            Face data set.
        images: name of the array in a ``.npz`` file, or of the column of a Hugging Face data set.
        labels: the same for the labels; empty for none.
        split: of a Hugging Face data set.

    Raises:
        ValueError: no such source or array, or data of another shape, type or range than :class:`Data` says.
    """
    path = Path(source)
    if source.startswith("hf:"):
        return _checked(*_hugging_face(source[3:], images or "image", labels, split), source)
    if path.suffix == ".npz" and path.is_file():
        return _checked(*_npz(path, images, labels), source)
    if source != "digits" and not path.is_dir() and not (path.suffix == ".npy" and path.is_file()):
        raise ValueError(
            f"data source must be 'digits', 'hf:NAME', a .npy or .npz file or a folder, got {source!r}"
        )
    if images or labels:
        raise ValueError(
            f"{source} has no named arrays: images and labels must be empty, got {images!r}, {labels!r}"
        )
    if source == "digits":
        return _digits()
    return _checked(*(_folder(path) if path.is_dir() else (_npy(path), None)), source)


def _digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # 0..16
    return Data(torch.from_numpy(pixels[:, None]), torch.from_numpy(digits.target.astype(np.int64)))


def _npy(path: Path) -> Array:
    with path.open("rb") as file, _whole(path):
        content = np.load(file, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            raise ValueError("it holds several arrays and should be named .npz")
        return content


def _npz(path: Path, images: str, labels: str) -> tuple[Array, Array | None]:
    with path.open("rb") as file:  # np.load would leave it open, were it damaged
        with _whole(path):
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise ValueError("it holds a single array and should be named .npy")
        for name in filter(None, (images, labels)):
            if name not in content.files:
                raise ValueError(f"{path} has no array {name!r}, only {', '.join(content.files)}")
        if not images and len(content.files) != 1:
            raise ValueError(
                f"{path} has {len(content.files)} arrays; set images to one of {', '.join(content.files)}"
            )
        with _whole(path):
            return content[images or content.files[0]], content[labels] if labels else None


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """ValueError that names the file, whatever is wrong with its bytes."""
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole numpy file of numbers: {error}") from None


def _folder(path: Path) -> tuple[Array, Array | None]:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGES))})")
    stack = _stacked([_image(file) for file in files], files)
    names = sorted({file.parent.name for file in files})
    if len(names) == 1:
        return stack, None
    loose = next((file for file in files if file.parent == path), None)
    if loose is not None:
        raise ValueError(
            f"images must all be in sub-folders, the classes, or all in one folder, got {loose} too"
        )
    return stack, np.array([names.index(file.parent.name) for file in files])


def _image(file: Path) -> Array:
    from PIL import Image

    try:
        with Image.open(file) as image:
            # The numbers of a palette are no brightness.
            return np.asarray(image.convert("RGB") if image.mode == "P" else image)
    except OSError as error:
        raise ValueError(f"{file} is not a whole image: {error}") from None


def _stacked(images: Sequence[Array], names: Sequence[object]) -> Array:
    """Images ``(H, W)`` or ``(H, W, C)`` as one array ``(N, H, W)`` or ``(N, C, H, W)``."""
    odd = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        raise ValueError(
            f"images must have one size and mode, got {images[0].shape} in {names[0]} "
            f"and {images[odd].shape} in {names[odd]}"
        )
    stack = np.stack(images)
    return np.moveaxis(stack, 3, 1) if stack.ndim == 4 else stack


def _hugging_face(name: str, images: str, labels: str, split: str) -> tuple[Array, Array | None]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError("data sets of Hugging Face need: pip install scoresde[datasets]") from None
    table = load_dataset(name, split=split)
    for column in filter(None, (images, labels)):
        if column not in table.column_names:
            raise ValueError(f"{name} has no column {column!r}, only {', '.join(table.column_names)}")
    stack = _stacked([np.asarray(image) for image in table[images]], [f"row {i}" for i in range(len(table))])
    return stack, np.asarray(table[labels]) if labels else None


def _checked(x: Array, labels: Array | None, source: str) -> Data:
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
        if not np.isfinite([low, high]).all() or (x.ndim == 4 and not -1 <= low <= high <= 1):
            raise ValueError(
                f"{source}: float images must be in [-1, 1] and vectors finite, got {low} to {high}"
            )
        x = x.astype(np.float32)
    if labels is not None and (labels.shape != x.shape[:1] or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"{source}: labels must be {len(x)} integers, got shape {labels.shape} of {labels.dtype}"
        )
    return Data(
        torch.from_numpy(np.ascontiguousarray(x)),
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
    )
