"""What the commands have in common: a network by name or file, its labels, and the options for both."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..command import printable
from ..denoisers.network import Denoiser
from ..denoisers.transported import Transported
from ..pretrained.shipped import FOLDERS
from ..processes.catalogue import SDES
from ..processes.sde import SDE, lam_at
from ..registry import nearest
from ..training.checkpoint import Trained, load_denoiser
from ..training.labels import classes_of


class Loaded(NamedTuple):
    """A network to sample from, the shape of one sample, and the labels that it was trained on."""

    denoiser: Denoiser | Transported
    shape: tuple[int, ...]
    seen: tuple[int, ...] = ()  # classes
    names: tuple[str, ...] = ()  # of all classes, by number; empty where they have none
    no_class: int | None = None  # the label of no class, where that was trained


def add_network(add: Callable[..., Any], labels: str) -> None:
    """The options that say which network, under which SDE, for which labels, and where."""
    add(
        "--checkpoint",
        default="mnist",
        metavar="FILE",
        help="file or folder of a training run; default: the included MNIST network",
    )
    add("--sde", metavar="NAME", help=f"SDE to run under; default: the network's own; {', '.join(SDES)}")
    add("--label", nargs="+", action="extend", metavar="K", help=f"classes, by name or number; {labels}")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    add("--quiet", action="store_true", help="no progress bar")


def load(options: argparse.Namespace, dtype: torch.dtype | None = None) -> Loaded:
    """The network that the options name, under its own SDE or another."""
    checkpoint = options.checkpoint
    shipped = checkpoint in FOLDERS and not Path(checkpoint).exists()
    trained = load_denoiser(FOLDERS[checkpoint] if shipped else Path(checkpoint))
    own = trained.denoiser.at(dtype)
    denoiser = Transported(own, options.sde) if options.sde else own
    return Loaded(denoiser, trained.shape, *_labels(trained))


def _labels(trained: Trained) -> tuple[tuple[int, ...], tuple[str, ...], int | None]:
    classes = classes_of(trained.denoiser.net)
    dropped = classes and trained.configuration.schedule.label_dropout > 0
    labels = trained.labels
    seen = tuple(range(classes)) if labels is None else labels.seen
    return seen, () if labels is None else labels.names, classes if dropped else None


def labels_asked(given: Sequence[str] | None, network: Loaded) -> list[int]:
    """The labels that were given, or all that the network has seen; empty for a network without classes.

    Raises:
        ValueError: a label that the network was not trained on, or any if it has no classes.
    """
    if given is not None and not network.seen:
        raise ValueError("--label was given, but the network has no classes")
    return list(network.seen) if given is None else [_label(word, network) for word in given]


def _label(word: str, network: Loaded) -> int:
    """A label by its name, or else by its number."""
    none = () if network.no_class is None else (network.no_class,)
    numbers = {str(number): number for number in (*network.seen, *none)}
    names = {network.names[k]: k for k in network.seen if k < len(network.names)}
    known: dict[str, int] = numbers | names
    if word not in known:
        called = {k: name for name, k in names.items()}
        hint = nearest(word, [called.get(k, str(k)) for k in network.seen])
        also = "".join(f"; or {number} for no class" for number in none)
        raise ValueError(f"--label must be one that the network was trained on, got {word!r}; {hint}{also}")
    return known[word]


def usual_spacing(sde: SDE) -> str:
    """Karras' levels, or equal steps in t where sigma / alpha has no beginning, for alpha = 0 at t_max."""
    return "karras" if math.isfinite(lam_at(sde, sde.t_max)) else "uniform-t"


def say(text: object) -> None:
    """Print lines; control characters in names are written as their codes."""
    print(printable(str(text)))
