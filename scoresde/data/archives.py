"""Arrays of .npy and .npz files: numbers only, and never more than the file holds or the user allows."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from .reading import Array, whole

KIND = "numpy file of numbers"
LONGEST_HEADER = 2**16


def read_npy(path: Path) -> Array:
    """The array of a .npy file; ValueError if its header does not fit the file, or it holds no numbers."""
    with path.open("rb") as file:
        size = path.stat().st_size
        with whole(path, KIND):
            if _starts_with(file, b"PK"):
                raise ValueError("it holds several arrays; name it .npz")
        return _array(path, lambda: file, size, allowed=size)


def read_npz(path: Path, images: str, labels: str, max_bytes: int) -> tuple[Array, Array | None]:
    """Two arrays of a .npz file by name.

    Args:
        path: of the file.
        images: name of the samples; empty for the only array.
        labels: name of the labels; empty for none.
        max_bytes: largest size of an array in memory. The size of the file itself is always allowed: a small
            file may claim a thousand times its size.

    Raises:
        ValueError: no such array, a damaged file, or an array that is too large; it is refused before it is
            read.
    """
    with path.open("rb") as file:
        with whole(path, KIND):
            if _starts_with(file, npy.MAGIC_PREFIX):
                raise ValueError("it holds a single array; name it .npy")
            archive = zipfile.ZipFile(file)
        found = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
        for name in filter(None, (images, labels)):
            if name not in found:
                raise ValueError(f"{path} has no array {name!r}, only {', '.join(found)}")
        if not images and len(found) != 1:
            raise ValueError(f"{path} has {len(found)} arrays; set images to one of {', '.join(found)}")
        allowed = max(max_bytes, path.stat().st_size)

        def read(name: str) -> Array:
            item = found[name]
            return _array(path, lambda: archive.open(item), item.file_size, allowed)

        return read(images or next(iter(found))), read(labels) if labels else None


def _starts_with(file: IO[bytes], prefix: bytes) -> bool:
    start = file.read(len(prefix))
    file.seek(0)
    return start == prefix


def _array(path: Path, start: Callable[[], IO[bytes]], size: int, allowed: int) -> Array:
    """The array of a stream of ``size`` bytes; its header must claim exactly this size."""
    with whole(path, KIND):
        stream = start()
        shape, dtype = _header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never loaded")
        claimed, held = dtype.itemsize * math.prod(shape), size - stream.tell()
        if claimed != held:
            raise ValueError(f"its header claims {claimed:,} bytes, but {held:,} are there")
    if claimed > allowed:
        raise ValueError(
            f"an array of {path} takes {claimed:,} bytes, allowed are {allowed:,}; "
            f"if you trust the file, set data.max_bytes = {claimed}"
        )
    with whole(path, KIND):
        stream.seek(0)
        array: Array = npy.read_array(stream, allow_pickle=False)
        return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type in the header of a stream."""
    if npy.read_magic(stream) == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
        return shape, dtype
    # Later versions allow a header of 4 GiB, and numpy would read all of it.
    length = int.from_bytes(stream.read(4), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header takes {length:,} bytes, allowed are {LONGEST_HEADER:,}")
    stream.seek(-4, 1)
    shape, _, dtype = npy.read_array_header_2_0(stream)
    return shape, dtype
