"""The names of a run's vectors: ``x3`` is state 3, ``h3`` point 3, ``d3`` output 3, ``z3`` noise 3."""

import re
from typing import Literal

Kind = Literal["state", "point", "output", "noise"]

KINDS: dict[str, Kind] = {"x": "state", "h": "point", "d": "output", "z": "noise"}
LETTERS: dict[Kind, str] = {kind: letter for letter, kind in KINDS.items()}

HELD: tuple[Kind, ...] = ("state", "point")  # the kinds that a combination makes

# A number has one spelling, at most nine digits long.
NAME = re.compile(r"[xhdz](0|[1-9][0-9]{0,8})", re.ASCII)

START = "x0"  # the state that a run starts from


def name_of(kind: Kind, index: int) -> str:
    """The name of the vector of this kind and number."""
    return f"{LETTERS[kind]}{index}"


def is_name(name: str) -> bool:
    """Is it the name of a vector?"""
    return NAME.fullmatch(name) is not None


def kind_of(name: str) -> Kind:
    """The kind of a vector, by its name."""
    return KINDS[name[0]]


def index_of(name: str) -> int:
    """The number of a vector among the vectors of its kind, by its name."""
    return int(name[1:])
