"""Data by name or path."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


class Data(NamedTuple):
    """x: uint8 images ``(N, C, H, W)``, or float ones in [-1, 1], or float vectors ``(N, D)``; labels ``(N,)``."""

    x: Tensor
    labels: Tensor | None


def load_data(source: str, images: str = "", labels: str = "", split: str = "train") -> Data:
    """Read a data set into memory.

    Args:
        source: ``"digits"`` (scikit-learn's 8x8 digits), a ``.npy`` or ``.npz`` file, a folder of images (the names of
            its sub-folders, if there are any, are the classes), or ``"hf:NAME"`` for a Hugging Face data set.
        images: name of the array in a ``.npz`` file, or of the column of a Hugging Face data set.
        labels: the same for the labels; empty for none.
        split: of a Hugging Face data set.

    Raises:
        ValueError: no such source or array, or data of another shape, type or range than :class:`Data` says.
    """
    path = Path(source)
    if source == "digits":
        return _digits()
    if source.startswith("hf:"):
        return _checked(*_hugging_face(source[3:], images or "image", labels, split), source)
    if path.suffix in (".npy", ".npz") and path.is_file():
        return _checked(*_numpy(path, images, labels), source)
    if path.is_dir():
        return _checked(*_folder(path), source)
    raise ValueError(f"data source must be 'digits', 'hf:NAME', a .npy or .npz file or a folder, got {source!r}")


def _digits() -> Data:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # 0..16
    return Data(torch.from_numpy(pixels[:, None]), torch.from_numpy(digits.target.astype(np.int64)))


def _numpy(path: Path, images: str, labels: str) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    try:
        content = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return content, None
        for name in filter(None, (images, labels)):
            if name not in content:
                raise ValueError(f"{path} has no array {name!r}, only {', '.join(content.files)}")
        if not images and len(content.files) > 1:
            raise ValueError(f"{path} has several arrays; set images to one of {', '.join(content.files)}")
        return content[images or content.files[0]], content[labels] if labels else None
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is not a numpy file: {error}") from None


def _folder(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    from PIL import Image

    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGES))})")
    pixels = [np.asarray(Image.open(file)) for file in files]
    odd = next((i for i, image in enumerate(pixels) if image.shape != pixels[0].shape), None)
    if odd is not None:
        raise ValueError(
            f"images must have one size and mode, got {pixels[0].shape} in {files[0]} and {pixels[odd].shape} in {files[odd]}"
        )
    names = sorted({file.parent.name for file in files if file.parent != path})
    classes = np.array([names.index(file.parent.name) for file in files]) if len(names) > 1 else None
    stack = np.stack(pixels)
    return (np.moveaxis(stack, 3, 1) if stack.ndim == 4 else stack), classes


def _hugging_face(name: str, images: str, labels: str, split: str) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError("data sets of Hugging Face need: pip install scoresde[datasets]") from None
    table = load_dataset(name, split=split)
    for column in filter(None, (images, labels)):
        if column not in table.column_names:
            raise ValueError(f"{name} has no column {column!r}, only {', '.join(table.column_names)}")
    stack = np.stack([np.asarray(image) for image in table[images]])
    classes = np.asarray(table[labels]) if labels else None
    return (np.moveaxis(stack, 3, 1) if stack.ndim == 4 else stack), classes


def _checked(x: npt.NDArray[np.generic], labels: npt.NDArray[np.generic] | None, source: str) -> Data:
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
            raise ValueError(f"{source}: float images must be in [-1, 1] and vectors finite, got {low} to {high}")
        x = x.astype(np.float32)
    if labels is not None and (labels.shape != x.shape[:1] or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"{source}: labels must be {len(x)} integers, got shape {labels.shape} of {labels.dtype}"
        )
    return Data(
        torch.from_numpy(np.ascontiguousarray(x)),
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
    )
