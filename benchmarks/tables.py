"""The console that prints tables."""

import sys

from rich.console import Console


def console(width: int = 110) -> Console:
    """A console that prints every name unchanged, without markup, emojis or colours.

    Its width is that of the terminal, or ``width`` without a terminal.
    """
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else width)
