"""Samples as pictures."""

import io
import math
from pathlib import Path

import torch
from torch import Tensor

from .files import write_atomically
from .metrics import to_uint8


def check_images(x: Tensor) -> None:
    """ValueError unless x holds images, ``(N, 1 or 3, H, W)``."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"pictures need shape (N, 1 or 3, H, W), got {tuple(x.shape)}")


def tile(x: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """Images ``(N, C, H, W)`` as one, ``(C, H', W')``, row by row, with a frame of ``gap`` pixels."""
    n, c, h, w = x.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = x.new_full((c, rows * (h + gap) + gap, columns * (w + gap) + gap), 64)
    for i in range(n):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = x[i]
    return sheet


def save_image(path: Path, x: Tensor) -> None:
    """Write uint8 pixels ``(C, H, W)`` as PNG."""
    from PIL import Image

    pixels = x[0] if len(x) == 1 else x.movedim(0, 2)
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "PNG")
    write_atomically(path, file.getvalue())


def save_grid(path: Path, x: Tensor, columns: int | None = None, scale: int = 1) -> None:
    """Write images ``(N, C, H, W)`` in [-1, 1] as one PNG, each pixel ``scale`` pixels wide."""
    check_images(x)
    sheet = tile(to_uint8(x.cpu()), columns)
    save_image(path, torch.repeat_interleave(torch.repeat_interleave(sheet, scale, 1), scale, 2))
