"""A folder of images. The folders in it are the classes."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .reading import Array, read_all, some, whole

if TYPE_CHECKING:
    from PIL import Image

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}

# By content, not by name. Pillow gives other formats, such as EPS, to external programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")

# Two folders with these names beside each other are parts of a data set, not classes.
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}


def read_folder(
    path: Path, show: Callable[["Image.Image"], Array], unreadable: str, progress: bool
) -> tuple[Array, Array | None, tuple[str, ...] | None]:
    """All images below a folder, in the order of their paths; their classes, and the names of the classes.

    1. The folders directly in ``path`` are the classes, numbered in the order of their names. An image at any
       depth below such a folder belongs to its class.
    2. A single folder is not a class.
    3. Names that begin with a dot are ignored.
    4. Links are followed; each class reads a folder once.

    Args:
        path: of the folder.
        show: the pixels of a Pillow image.
        unreadable: ``"error"``, or ``"skip"`` to leave out images that cannot be read, with a warning.
        progress: show a bar where reading takes more than two seconds.

    Raises:
        ValueError: no images; a class without images; images beside the classes; two splits (train, val,
            test) beside each other; images that cannot be read or differ in size or mode.
    """
    classes = classes_of(path)
    files = [file for members in classes.values() for file in members]
    numbers = np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()])

    def read(i: int) -> Array:
        return read_image(files[i], show)

    x, kept = read_all(files, read, unreadable, progress)
    if len(classes) == 1:
        return x, None, None
    emptied = set(range(len(classes))) - set(numbers[kept].tolist())
    if emptied:
        raise ValueError(f"no image of the class {list(classes)[min(emptied)]!r} of {path} can be read")
    return x, numbers[kept], tuple(classes)


def classes_of(path: Path) -> dict[str, list[Path]]:
    """The image files of each class by its name; without classes, all files under one name."""
    folders, loose = _entries(path)
    within = {folder.name: _files(folder, path) for folder in folders}
    if loose and any(within.values()):
        raise ValueError(
            f"images must all be in sub-folders, the classes, or all in one folder, got {loose[0]} beside "
            f"sub-folders"
        )
    if loose:
        return {"": loose}
    if not any(within.values()):
        raise ValueError(f"{path} holds no images ({', '.join(sorted(IMAGES))})")
    splits = [name for name in within if name.lower() in SPLITS]
    if len(splits) > 1:
        raise ValueError(
            f"{path} holds splits, not classes; point data.source at one of them: "
            f"{', '.join(str(path / name) for name in splits)}"
        )
    empty = [name for name, files in within.items() if not files]
    if empty:
        raise ValueError(
            f"{path} has folders without images: {some(empty)}; every folder in it is a class: "
            "move them away, or begin their names with a dot"
        )
    return within


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the image files directly in a folder, in the order of their names."""
    try:
        shown = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ValueError(f"folder {folder} cannot be read: {error}") from None
    folders = [entry for entry in shown if entry.is_dir()]
    files = [entry for entry in shown if entry.suffix.lower() in IMAGES and not entry.is_dir()]
    return folders, files


def _files(folder: Path, root: Path) -> list[Path]:
    """The image files at any depth of a folder, in the order of their paths.

    Links may form circles, so each folder is entered once, and the root never.
    """
    entered, waiting, found = {root.resolve()}, [folder], []
    while waiting:
        here = waiting.pop()
        real = here.resolve()
        if real in entered:
            continue
        entered.add(real)
        folders, files = _entries(here)
        waiting += folders
        found += files
    return sorted(found)


def read_image(file: Path, show: Callable[["Image.Image"], Array]) -> Array:
    """The pixels of an image file, by ``show``; ValueError that names the file if it cannot be read."""
    from PIL import Image

    with whole(file, "image"), Image.open(file, formats=FORMATS) as image:
        return show(image)
