"""The ``scoresde`` command line."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..command import guarded
from . import edit, measure, sample, train, tune

COMMANDS = {
    "train": (train, "train a network by denoising score matching"),
    "sample": (sample, "draw samples from a trained network"),
    "edit": (edit, "change pictures, or take noise from them, with a trained network"),
    "measure": (measure, "find levels and solvers for a trained network"),
    "tune": (tune, "fit solvers with few network calls to a trained network"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 2 for bad input, with one line on stderr."""
    return guarded("scoresde", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = _Parser(
        "scoresde",
        description="Train score networks, draw samples, edit pictures, measure levels, tune solvers.",
    )
    parser.add_argument("--version", action="version", version=f"scoresde {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        module.add_options(command)
        command.set_defaults(run=module.run)
    options, rest = parser.parse_known_args(arguments)
    # argparse takes overrides in one place only; here they may stand before and after any option.
    if rest and not (hasattr(options, "overrides") and all("=" in word and word[0] != "-" for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    options.run(options)


class _Parser(argparse.ArgumentParser):
    """A parser that raises a ValueError for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace(": must be", " must be", 1)
        raise ValueError(f"{message}; {self.prog} --help lists what is allowed")
