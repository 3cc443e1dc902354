"""Where tables are printed."""

import sys

from rich.console import Console


def console(width: int = 110) -> Console:
    """A console that prints every name as it is: nothing in it is markup, an emoji or a colour.

    As wide as the terminal, or ``width`` without a terminal.
    """
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else width)
