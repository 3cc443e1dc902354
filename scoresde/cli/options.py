"""Options that several commands have."""

import argparse
from collections.abc import Callable
from typing import Any

from ..processes.catalogue import SDES

LARGEST = 2**63 - 1  # what torch's integers hold

Add = Callable[..., Any]  # ``argparse.ArgumentParser.add_argument``


def integer_from(least: int) -> Callable[[str], int]:
    """The type of an option: an integer of at least ``least`` and below 2^63."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {number}")
        if number > LARGEST:
            raise argparse.ArgumentTypeError(f"must be below 2^63, got {number}")
        return number

    return read


def add_network(add: Add, labels: str) -> None:
    """The options for the network: which one, under which SDE, for which labels."""
    add(
        "--checkpoint",
        default="mnist",
        metavar="FILE",
        help="file or folder of a training run; default: the included MNIST network",
    )
    add("--sde", metavar="NAME", help=f"SDE to run under; default: the SDE of the network; {', '.join(SDES)}")
    add("--label", nargs="+", action="extend", metavar="K", help=f"classes, by name or number; {labels}")


def add_guidance(add: Add) -> None:
    """The options for classifier-free guidance."""
    add(
        "--guidance",
        type=float,
        metavar="W",
        help="classifier-free guidance: weight of the class; 1 is none, the default; 2 or more for samples "
        "that are surer of their class and less diverse; it needs a second network call at each level",
    )
    add(
        "--guidance-interval",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="guidance only for sigma / alpha between these, with smooth ends; default: at all levels",
    )


def add_draws(add: Add, batch_size: int) -> None:
    """The options for the noise and the batches."""
    add("--seed", type=int, default=0, help="seed of the noise; default 0")
    add(
        "--batch-size",
        type=integer_from(1),
        default=batch_size,
        metavar="N",
        help=f"samples at a time; default {batch_size}",
    )


def add_machine(add: Add) -> None:
    """The options for the device and the terminal."""
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    add("--quiet", action="store_true", help="no progress bar")


def add_compile(add: Add) -> None:
    """The option to compile the network."""
    add("--compile", action="store_true", help="compile the network first (torch.compile)")
