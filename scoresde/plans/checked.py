"""Checks of a plan that another program may have written: each line can be executed after those before it."""

import math
import reprlib

from ..processes.level import Level
from .names import HELD, LETTERS, Kind, is_name, kind_of
from .vector import Row


def check_line(
    name: str, row: Row, level: Level[float] | None, measured: tuple[Row, float] | None, known: set[str]
) -> None:
    """ValueError unless the loop can execute a line.

    Args:
        name: the name of the new vector.
        row: its terms.
        level: the level of a network call; None for a combination.
        measured: the row of the score and the signal-to-noise ratio; None for other lines.
        known: the vectors that earlier lines made, and the start.
    """
    kinds: tuple[Kind, ...] = HELD if level is None else ("output",)
    if not is_name(name) or kind_of(name) not in kinds or name in known:
        letters = " or ".join(LETTERS[kind] for kind in kinds)
        raise ValueError(f"{shown(name)} is no name of a new vector, which is {letters} and a number")
    if not row or (measured and not measured[0]):
        raise ValueError(f"{name} is made of nothing")
    if measured and not (kind_of(name) == "state" and row[1:] and row[-1][0][:1] == LETTERS["noise"]):
        raise ValueError(f"{name} is no state, with noise added last, that norms could size")
    for term, weight in row + (measured[0] if measured else ()):
        if not (term in known or (is_name(term) and kind_of(term) == "noise")):
            raise ValueError(f"{name} is made of {_plain(term)}, which no line before it makes")
        if not math.isfinite(weight):
            raise ValueError(f"{name} has the weight {weight!r} on {term}; it must be finite")
    if measured and not 0 < measured[1] < math.inf:
        raise ValueError(
            f"{name} has the signal-to-noise ratio {measured[1]!r}; it must be positive and finite"
        )


def check_level(level: Level[float]) -> Level[float]:
    """A level of a file; ValueError unless a process can have it."""
    finite = all(map(math.isfinite, level[:3])) and not math.isnan(level.lam)
    if not (finite and level.alpha >= 0 and level.sigma >= 0):
        raise ValueError(
            f"a level must be of numbers that a process can have, t, alpha and sigma finite, alpha and sigma "
            f"not negative, and lambda not NaN; got {tuple(level)}"
        )
    return level


def shown(value: object) -> str:
    """A value of a file in a message, cut short."""
    return reprlib.repr(value)


def _plain(name: str) -> str:
    return name if name.isascii() and name.isalnum() and len(name) < 40 else shown(name)
