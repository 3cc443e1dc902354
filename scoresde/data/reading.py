"""Reading files: every error names its file, and one error lists the faults of many files."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

Array = npt.NDArray[np.generic]

SHOWN = 5  # faults that a message names


@contextmanager
def whole(name: object, kind: str) -> Iterator[None]:
    """Replace every exception of a decoder by a ValueError that names the file.

    Damaged files make numpy and Pillow raise some twenty kinds of exceptions, among them SyntaxError,
    MemoryError, struct.error, NotImplementedError and DecompressionBombError.

    Args:
        name: of the file.
        kind: of the file, for the message "... is not a whole ...".
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{name} is not a whole {kind}: {str(error) or type(error).__name__}") from error


def read_all(
    names: Sequence[object], read: Callable[[int], Array], unreadable: str, progress: bool
) -> tuple[Array, list[int]]:
    """Arrays of equal shape, stacked to ``(N, ...)``, and their indices.

    Args:
        names: of the files or rows, for messages.
        read: from an index to its array; a ValueError that names the file if it cannot be read.
        unreadable: ``"error"``, or ``"skip"`` to leave out such arrays, with a warning.
        progress: show a bar where reading takes more than two seconds.

    Raises:
        ValueError: arrays that cannot be read, or differ from the first in shape or type. The message counts
            all of them and names the first few.
    """
    arrays: list[Array] = []
    kept, failed, odd = [], [], []
    for i in tqdm(range(len(names)), "reading", unit="image", delay=2, leave=False, disable=not progress):
        try:
            array = read(i)
        except ValueError as error:
            failed.append(str(error))
            continue
        if arrays and _kind(array) != _kind(arrays[0]):
            odd.append(f"{_kind(array)} in {names[i]}")
            continue
        arrays.append(array)
        kept.append(i)
    faults = []
    if failed and (unreadable == "error" or not arrays):
        faults.append(f"{len(failed)} of {len(names)} images cannot be read: {some(failed)}")
    if odd:
        faults.append(
            f"images must have one size and mode, got {_kind(arrays[0])} in {names[kept[0]]} and "
            f"{some(odd)}; set data.size, data.mode or both to make them alike"
        )
    if faults:
        raise ValueError("; ".join(faults))
    if failed:
        text = f"{len(failed)} of {len(names)} images cannot be read and were skipped: {some(failed)}"
        warnings.warn(text, stacklevel=4)  # at the call of load_data
    return np.stack(arrays), kept


def _kind(array: Array) -> str:
    return f"{array.shape}" if array.dtype == np.uint8 else f"{array.shape} {array.dtype}"


def some(items: Sequence[str]) -> str:
    """The first few items, and the number of the others."""
    rest = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + rest
