"""Pixels of images as numbers, for files and rows of data sets alike; and numbers as pixels."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..integer import integer
from .reading import Array

if TYPE_CHECKING:
    from PIL import Image

Size = int | Sequence[int] | None

MODES = ("L", "LA", "RGB", "RGBA")
LONGEST = 8192  # pixels of a side; no network takes more

# The modes of Pillow with 8 bits, and the modes that they are converted to.
CONVERTED_TO = {
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
    "LAB": "RGB",
    "HSV": "RGB",
}


def pixels(image: "Image.Image", mode: str = "", size: Size = None, crop: bool | str = False) -> Array:
    """The pixels of a Pillow image, ``(C, H, W)``.

    The image is rotated by its EXIF orientation, converted, then scaled (Lanczos). An image with several
    frames gives the first. Pillow reads colours of 16 bits as 8 bits.

    Args:
        image: left as it is.
        mode: ``"L"``, ``"LA"``, ``"RGB"`` or ``"RGBA"``, all uint8. A mode without transparency drops it,
            as Pillow does. ``""`` keeps the mode of the image, with these exceptions: a palette becomes RGB,
            or RGBA with transparency; CMYK, LAB, YCbCr and HSV become RGB; PA becomes RGBA; 1 bit becomes L;
            grey of 16 bits becomes float32 in [-1, 1] (0 is -1, 65,535 is 1). Floats in [-1, 1] stay.
        size: height and width, or one number for both; None keeps the size.
        crop: keep the middle of an image with another aspect ratio; otherwise the image is stretched, with a
            warning.

    Raises:
        ValueError: floats outside [-1, 1], or integers outside 0..65,535: their range is unknown.
    """
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _deep(image, bool(mode))
    else:
        image = _as(image, _shown_as(image))
    array = np.atleast_3d(np.asarray(_scaled(_as(image, mode or image.mode), size, crop)))
    if array.dtype != np.uint8:  # Lanczos overshoots at edges, and Pillow clips uint8 alone
        array = array.clip(-1, 1)
    return np.moveaxis(array, 2, 0)


def check_options(size: Size, mode: str, crop: bool | str, unreadable: str, max_bytes: int) -> None:
    """Refuse values that :func:`scoresde.data.load_data` does not accept.

    Raises:
        TypeError: a side or ``max_bytes`` that is not an integer.
        ValueError: a value outside its range.
    """
    if mode not in ("", *MODES):
        raise ValueError(f"mode must be one of {', '.join(MODES)}, or '' for the image's own, got {mode!r}")
    if size is not None:
        sides(size)
    if crop not in (True, False, "center"):
        raise ValueError(f"crop must be true, false or 'center', got {crop!r}")
    if crop and size is None:
        raise ValueError(f"crop needs size, the height and width to crop to, got crop {crop!r} without size")
    if unreadable not in ("error", "skip"):
        raise ValueError(f"unreadable must be 'error' or 'skip', got {unreadable!r}")
    integer("max_bytes", max_bytes, 1)


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels.

    Raises:
        TypeError: a side that is not an integer.
        ValueError: not one or two sides, or a side outside 1 to 8,192.
    """
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2:
        raise ValueError(f"size must be one integer or two (height, width), got {size!r}")
    height, width = (integer("size", side, 1) for side in pair)
    if max(height, width) > LONGEST:
        raise ValueError(f"size must be at most {LONGEST}, got {size!r}")
    return height, width


def to_uint8(x: Tensor) -> Tensor:
    """Images in [-1, 1], of any shape, as pixels 0..255: clamped, then rounded, in float32.

    Every measurement uses it, for samples and data, so that rounding makes no difference between them.

    Args:
        x: floating point numbers.

    Raises:
        ValueError: not floating point, or numbers that are not finite.
    """
    if not x.is_floating_point():
        raise ValueError(f"images must be floating point numbers in [-1, 1], got {x.dtype}")
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        raise ValueError(f"images must be finite, {bad} of {x.numel()} numbers are not")
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _as(image: "Image.Image", mode: str) -> "Image.Image":
    return image if image.mode == mode else image.convert(mode)


def _shown_as(image: "Image.Image") -> str:
    if image.mode == "P":
        clear = "transparency" in image.info or (image.palette and image.palette.mode.endswith("A"))
        return "RGBA" if clear else "RGB"
    return CONVERTED_TO.get(image.mode, image.mode)


def _deep(image: "Image.Image", to_8_bits: bool) -> "Image.Image":
    """Grey of more than 8 bits, as floats in [-1, 1] or as L; Pillow's conversion would clip at 255."""
    from PIL import Image

    values = np.asarray(image)
    low, high = (-1, 1) if values.dtype.kind == "f" else (0, 65535)
    if not (low <= values.min() and values.max() <= high):  # False for NaN too
        raise ValueError(
            f"its numbers must be in {low}..{high}, since their range is unknown, "
            f"got {values.min()} to {values.max()}"
        )
    floats = values if values.dtype.kind == "f" else (values / 32767.5 - 1).astype(np.float32)
    return Image.fromarray(to_uint8(torch.tensor(floats)).numpy() if to_8_bits else floats)


def _scaled(image: "Image.Image", size: Size, crop: bool | str) -> "Image.Image":
    from PIL import Image, ImageOps

    if size is None:
        return image
    height, width = sides(size)
    if crop:
        return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    if not 0.98 < image.width * height / (image.height * width) < 1.02:
        text = "images with another aspect ratio than data.size are stretched; data.crop = true crops them"
        warnings.warn(text, stacklevel=3)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def to_float(x: Tensor) -> Tensor:
    """Pixels 0..255 as -1..1; other numbers as they are; in float32."""
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()
