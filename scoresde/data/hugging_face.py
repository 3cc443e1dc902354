"""Data sets of Hugging Face."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .reading import Array, read_all, whole

if TYPE_CHECKING:
    from PIL import Image


def read_hugging_face(
    name: str,
    images: str,
    labels: str,
    split: str,
    show: Callable[["Image.Image"], Array],
    unreadable: str,
    progress: bool,
) -> tuple[Array, Array | None, tuple[str, ...] | None]:
    """The images or vectors of a data set, its labels, and the names of the classes where it has them.

    Args:
        name: of the data set.
        images: column of the images or vectors.
        labels: column of the labels; empty for none.
        split: such as ``"train"``.
        show: the pixels of a Pillow image.
        unreadable: ``"error"``, or ``"skip"`` to leave out rows that cannot be read, with a warning.
        progress: show a bar where reading takes more than two seconds.

    Raises:
        ValueError: no such package, data set, split or column, or rows that cannot be read or differ in size.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError("data sets of Hugging Face need: pip install scoresde[datasets]") from None
    try:
        table = load_dataset(name, split=split)
    except Exception as error:  # from the network, the hub, or the format of the data set
        raise ValueError(f"data set {name!r} of Hugging Face, split {split!r}: {error}") from error
    for column in filter(None, (images, labels)):
        if column not in table.column_names:
            raise ValueError(f"{name} has no column {column!r}, only {', '.join(table.column_names)}")
    if not len(table):
        raise ValueError(f"{name} has no rows in its split {split!r}")
    rows, names = table.select_columns([images]), [f"row {i} of {name}" for i in range(len(table))]

    def read(i: int) -> Array:
        with whole(names[i], "image or vector"):
            return _array(rows[i][images], show)

    x, kept = read_all(names, read, unreadable, progress)
    if not labels:
        return x, None, None
    known = getattr(table.features[labels], "names", None)
    return x, np.asarray(table[labels])[kept], tuple(known) if known else None


def _array(value: Any, show: Callable[["Image.Image"], Array]) -> Array:
    from PIL import Image

    if value is None:
        raise ValueError("it is empty")
    return show(value) if isinstance(value, Image.Image) else np.asarray(value)
