"""Which classes a network was trained on."""

from typing import NamedTuple


class Labels(NamedTuple):
    """Which classes a network was trained on, and their names."""

    seen: tuple[int, ...]
    names: tuple[str, ...] = ()
