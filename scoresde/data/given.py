"""Pictures that a user gives, as files: numbers for a network, and masks."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .archives import read_npy, read_npz
from .folder import IMAGES, read_image
from .pictures import check_images
from .pixels import pixels, to_float
from .reading import Array

MODES = {1: "L", 3: "RGB"}
MOST_BYTES = 2**32  # of an array of a .npz file


def read_pictures(paths: Sequence[Path], shape: Sequence[int], *, noisy: bool = False) -> Tensor:
    """All pictures of files, in order, ``(N, C, H, W)`` in float32; pixels 0..255 become -1..1.

    Args:
        paths: picture files; or .npy files, and .npz files of one array, of one picture or many, of uint8 or
            floats: ``(N, C, H, W)``, ``(C, H, W)``, and without C if it is 1.
        shape: of a picture, ``(1 or 3, H, W)``. A picture file is converted to grey or RGB, but not scaled.
        noisy: floats may be beyond [-1, 1].

    Raises:
        ValueError: no file; a file that is no picture, or of pictures of another size; numbers that are not
            finite, or beyond [-1, 1].
    """
    check_images(shape)
    return torch.cat([_read(path, tuple(shape), noisy) for path in paths])


def read_mask(path: Path, size: Sequence[int]) -> Tensor:
    """A picture file of black and white, ``(H, W)``: True where it is white.

    Pixels below half of white are black: programs that paint leave greys at edges.

    Raises:
        ValueError: no picture, or of another size.
    """
    return _read(path, (1, *size), noisy=False)[0, 0] > 0


def _read(path: Path, shape: tuple[int, ...], noisy: bool) -> Tensor:
    if not path.is_file():
        raise ValueError(f"{path} is no file; give pictures, or .npy or .npz files")
    if path.suffix.lower() in IMAGES:
        array: Array = read_image(path, partial(pixels, mode=MODES[shape[0]]))[None]
        shown = f"{array.shape[2]} x {array.shape[3]} pixels"
    elif path.suffix in (".npy", ".npz"):
        array = read_npy(path) if path.suffix == ".npy" else read_npz(path, "", "", MOST_BYTES)[0]
        shown = f"an array of shape {array.shape}"
        if array.dtype != np.uint8 and array.dtype.kind != "f":
            raise ValueError(f"{path} must hold uint8 or floating point numbers, got {array.dtype}")
        array = _as_batch(array, shape)
    else:
        raise ValueError(f"{path} must be a picture ({', '.join(sorted(IMAGES))}), .npy or .npz")
    if array.shape[1:] != shape or not len(array):
        raise ValueError(f"{path} must hold {_called(shape)}, got {shown}")
    return _finite(path, to_float(torch.from_numpy(np.array(array))), noisy)


def _as_batch(array: Array, shape: tuple[int, ...]) -> Array:
    """An array in the shape ``(N, C, H, W)``, if it can be one."""
    if shape[0] == 1 and array.shape[-2:] == shape[1:] and array.ndim in (2, 3):
        return array.reshape(-1, *shape)
    return array[None] if array.ndim == 3 else array


def _called(shape: tuple[int, ...]) -> str:
    kind = "grey" if shape[0] == 1 else "colour"
    return f"{kind} pictures of {shape[1]} x {shape[2]} pixels, as the network's"


def _finite(path: Path, x: Tensor, noisy: bool) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(f"{path} must hold finite numbers")
    if not (noisy or (x.min() >= -1 and x.max() <= 1)):
        raise ValueError(f"{path} must hold numbers in [-1, 1], got {x.min():.4g} to {x.max():.4g}")
    return x
