"""Samples as pictures."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..files import write_atomically
from .pixels import to_uint8

SIDE = 900  # pixels of the longer side of a grid, about: easy to see on a screen


def check_images(shape: Sequence[int]) -> None:
    """ValueError unless ``shape``, of one image, is ``(1 or 3, H, W)``."""
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape:
        raise ValueError(f"pictures need images of shape (1 or 3, H, W), got {tuple(shape)}")


def tile(x: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """Images ``(N, C, H, W)`` as one image ``(C, H', W')``, row by row, with ``gap`` pixels around each."""
    n, c, h, w = x.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = x.new_full((c, rows * (h + gap) + gap, columns * (w + gap) + gap), 64)
    for i in range(n):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = x[i]
    return sheet


def scale_for(height: int, width: int) -> int:
    """The integer factor, at least 1, that brings the longer side of a picture nearest to 900 pixels."""
    return max(1, round(SIDE / max(height, width)))


def save_image(path: str | Path, x: Tensor) -> None:
    """Write uint8 pixels ``(C, H, W)``, C 1 or 3, as PNG; ValueError for another shape or type."""
    from PIL import Image

    check_images(x.shape)
    if x.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, got {x.dtype}")
    pixels = x[0] if len(x) == 1 else x.movedim(0, 2)
    file = io.BytesIO()
    Image.fromarray(pixels.cpu().contiguous().numpy()).save(file, "PNG")
    write_atomically(Path(path), file.getvalue())


def save_grid(path: str | Path, x: Tensor, columns: int | None = None, scale: int | None = None) -> None:
    """Write images ``(N, C, H, W)`` in [-1, 1] as one PNG.

    Args:
        path: of the file.
        x: the images.
        columns: of the grid; default, about the number of rows.
        scale: side, in pixels, of a pixel of an image; default, so that the picture has about 900 pixels.

    Raises:
        ValueError: no images, another shape, numbers that are not finite, or columns or a scale below 1.
    """
    check_images(x.shape[1:])
    if not len(x) or (columns is not None and columns < 1) or (scale is not None and scale < 1):
        raise ValueError(
            f"a grid needs images, and columns and scale of at least 1, got {len(x)} images, {columns} and "
            f"{scale}"
        )
    sheet = tile(to_uint8(x.cpu()), columns)
    factor = scale or scale_for(*sheet.shape[1:])
    save_image(path, sheet.repeat_interleave(factor, 1).repeat_interleave(factor, 2))
