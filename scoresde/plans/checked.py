"""What is read of a plan's file, checked line by line."""

import math
import re
from collections.abc import Sequence

from ..processes.level import Level
from .tape import Line


def check_lines(lines: Sequence[Line]) -> None:
    """Refuse lines of a file that no run can carry out."""
    known = {"x0"}
    for line in lines:
        kind = "[xh]" if line.level is None else "d"
        if not re.fullmatch(rf"{kind}(0|[1-9][0-9]{{0,8}})", line.name) or line.name in known:
            raise ValueError(f"{line.name!r} is no name of a new vector, which is {kind} and a number")
        if not line.row or (line.measured and not line.measured[0]):
            raise ValueError(f"{line.name} is made of nothing")
        if line.measured and not (line.name[0] == "x" and line.row[1:] and line.row[-1][0][0] == "z"):
            raise ValueError(f"{line.name} is no state, with noise added last, that norms could size")
        for name, weight in line.row + (line.measured[0] if line.measured else ()):
            if name not in known and not re.fullmatch("z[0-9]{1,9}", name):
                raise ValueError(f"{line.name} is made of {name}, which no line before it makes")
            if not math.isfinite(weight):
                raise ValueError(f"{line.name} has the weight {weight!r} on {name}")
        known.add(line.name)
        if line.measured and not 0 < line.measured[1] < math.inf:
            raise ValueError(f"{line.name} has the signal-to-noise ratio {line.measured[1]!r}")
    if not lines or lines[-1].name[:1] != "x":
        raise ValueError("it does not end with a state")


def check_level(level: Level[float]) -> Level[float]:
    """A level of a file; ValueError if it can be none."""
    if not (all(map(math.isfinite, level[:3])) and min(level[1:3]) >= 0 and not math.isnan(level.lam)):
        raise ValueError(f"a level must be of numbers that a process can have, got {tuple(level)}")
    return level
