"""The network and the labels that the options of a command name."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ..command import printable
from ..conditioning.guidance import guided
from ..conditioning.weights import Interval
from ..denoisers.network import Denoiser
from ..denoisers.protocol import DenoiserLike
from ..denoisers.transported import Transported
from ..pretrained.shipped import FOLDERS
from ..registry import nearest
from ..training.checkpoint import Trained, load_denoiser

EDGE = 0.15  # the width of the ends of --guidance-interval in log sigma, with which a solver keeps its order


class Loaded(NamedTuple):
    """A network to sample from, the shape of one sample, and the labels that it was trained on."""

    denoiser: Denoiser | Transported
    shape: tuple[int, ...]
    seen: tuple[int, ...] = ()  # classes
    names: tuple[str, ...] = ()  # of all classes, by number; empty if they have no names
    no_class: int | None = None  # the label that means no class, if the network was trained with it


def is_included(checkpoint: str) -> bool:
    """Is it the name of an included network, and of no file or folder here?"""
    return checkpoint in FOLDERS and not Path(checkpoint).exists()


def checkpoint_path(checkpoint: str) -> Path:
    """The file or folder of ``--checkpoint``, or of an included network."""
    return FOLDERS[checkpoint] if is_included(checkpoint) else Path(checkpoint)


def load(options: argparse.Namespace, dtype: torch.dtype | None = None) -> Loaded:
    """The network that the options name, under its own SDE or another, in a precision.

    Raises:
        ValueError: no such file; an unknown SDE, or one that has no noise levels in common with its own.
    """
    trained = load_denoiser(checkpoint_path(options.checkpoint))
    own = trained.denoiser.at(dtype)
    denoiser = Transported(own, options.sde) if options.sde else own
    return Loaded(denoiser, trained.shape, *_labels(trained))


def _labels(trained: Trained) -> tuple[tuple[int, ...], tuple[str, ...], int | None]:
    classes = trained.denoiser.classes or 0
    dropped = classes and trained.configuration.optimization.label_dropout > 0
    labels = trained.labels
    seen = tuple(range(classes)) if labels is None else labels.seen
    return seen, () if labels is None else labels.names, classes if dropped else None


def labels_asked(given: Sequence[str] | None, network: Loaded, option: str = "--label") -> list[int]:
    """The labels of an option; by default, all that the network was trained on.

    Raises:
        ValueError: a label that the network was not trained on; any label, for a network without classes.
    """
    if given is not None and not network.seen:
        raise ValueError(f"{option} was given, but the network has no classes")
    return list(network.seen) if given is None else [_label(word, network, option) for word in given]


def _label(word: str, network: Loaded, option: str) -> int:
    """A label by its name or number; a name comes first."""
    none = () if network.no_class is None else (network.no_class,)
    numbers = {str(number): number for number in (*network.seen, *none)}
    names = {network.names[k]: k for k in network.seen if k < len(network.names)}
    known: dict[str, int] = numbers | names
    if word not in known:
        called = {k: name for name, k in names.items()}
        hint = nearest(word, [called.get(k, str(k)) for k in network.seen])
        also = "".join(f"; or {number} for no class" for number in none)
        raise ValueError(f"{option} must be one that the network was trained on, got {word!r}; {hint}{also}")
    return known[word]


def guided_as(options: argparse.Namespace, network: Loaded, denoiser: DenoiserLike) -> DenoiserLike:
    """The denoiser of a network with the guidance of ``--guidance``; as it is without this option.

    Raises:
        ValueError: a weight or an interval that is refused; a network that does not know *no class*.
    """
    weight, interval = options.guidance, options.guidance_interval
    if weight is None:
        if interval is not None:
            raise ValueError("--guidance-interval is for --guidance, which was not given")
        return denoiser
    if network.no_class is None:
        raise ValueError(
            "--guidance needs a network that was trained with classes, and at times without them "
            "(optimization.label_dropout)"
        )
    try:
        if interval is not None:
            low, high = interval
            weight = Interval(weight, low, high, EDGE)
        return guided(denoiser, network.no_class, weight)
    except ValueError as error:
        raise ValueError(f"--guidance: {error}") from None


def check_writable(folder: Path) -> None:
    """OSError if the folder is not writable. The folder is not changed."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    for path in made:
        path.rmdir()


def say(text: object) -> None:
    """Print lines, with each control character as its code."""
    print(printable(str(text)))
