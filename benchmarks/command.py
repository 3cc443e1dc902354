"""The start and the end of every benchmark program, and the options that several programs share.

Each program imports this module first, before numpy and torch: from then on Ctrl-C ends it in one line.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from scoresde.command import guarded

# Options of several programs. A program may change the default: see add_shared.
SHARED: dict[str, dict[str, Any]] = {
    "nfe": {
        **{"nargs": "+", "type": int, "default": [20], "metavar": "N"},
        "help": "budgets of network calls for each sample; default 20",
    },
    "n-samples": {
        **{"type": int, "default": 1000, "metavar": "N"},
        "help": "samples in each run; default %(default)s",
    },
    "batch-size": {
        **{"type": int, "default": 250, "metavar": "N"},
        "help": "samples in each batch; default %(default)s",
    },
    "repeats": {
        **{"type": int, "default": 10, "metavar": "N"},
        "help": "number of measurements; each figure is their median; default %(default)s",
    },
    "seed": {"type": int, "default": 0, "metavar": "N", "help": "seed of the noise; default %(default)s"},
    "device": {"default": "cpu", "help": "cpu, cuda, ...; default %(default)s"},
    "converged": {
        **{"type": int, "metavar": "N"},
        "help": "network calls of the converged run; default: a number that each problem defines",
    },
    "out": {
        **{"type": Path, "default": Path("results"), "metavar": "PATH"},
        "help": "a folder, or a file named .jsonl; default %(default)s",
    },
    "quiet": {"action": "store_true", "help": "show no progress bar"},
}


class _Parser(argparse.ArgumentParser):
    """A parser that raises a ValueError for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help lists what is allowed")


def parser_of(file: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with the name of the program's file; the first words of its docstring describe it."""
    return _Parser(Path(file).name, description=(doc or "").partition(": ``")[0] + ".")


def add_shared(parser: argparse.ArgumentParser, *names: str, **defaults: Any) -> None:
    """Add options of SHARED, with other defaults where the program gives any."""
    for name in names:
        parser.add_argument(f"--{name}", **SHARED[name])
    parser.set_defaults(**defaults)


def execute(
    parser: argparse.ArgumentParser,
    program: Callable[[argparse.Namespace], int | None],
    arguments: Sequence[str] | None,
) -> int:
    """Parse the command line and run the program.

    Returns:
        The exit status: that of ``program`` (None counts as 0), or 2 after bad input, 130 after Ctrl-C and 1
        after an unexpected error, each with one line on stderr.
    """
    status = 0

    def run() -> None:
        nonlocal status
        status = program(parser.parse_args(arguments)) or 0

    return guarded(parser.prog, run) or status


def at_least(least: int, options: argparse.Namespace, *names: str) -> None:
    """ValueError if one of these options is below ``least``; each is a number, a list of numbers or None."""
    for name in names:
        value = getattr(options, name)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and number < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {number}")


def check_writable(file: Path) -> None:
    """OSError if a file cannot be created, replaced or extended; programs call this before any work."""
    if file.is_dir():
        raise IsADirectoryError(f"--out must be a file, got the folder {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=file.parent):
        pass
    if file.exists():
        with open(file, "ab"):
            pass
