"""Levels of a run that are too near to each other for a solver, or impossible for it."""

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..processes.level import Level
from ..processes.sde import SDE

NEAR = 1e-2  # a step shorter than this part of a neighbouring step joins nearly equal levels
COINCIDE = 1e-9  # a step shorter than this in lambda joins levels that coincide
LARGE = 1e4  # weights at which the roundings of float32 are about a thousandth of an output


class Nearest(NamedTuple):
    """The step that is the shortest relative to its neighbours."""

    gap: float  # its length in lambda
    share: float  # its length divided by the longer of its neighbours'
    t: Level[float]
    s: Level[float]

    def __str__(self) -> str:
        return f"t = {self.t.t!r} and t = {self.s.t!r} are {self.gap:.2g} apart in lambda"


def nearest(levels: Sequence[Level[float]]) -> Nearest | None:
    """The two levels of a grid that are nearest to each other; None for fewer than two finite steps."""
    steps = [(s.lam - t.lam, t, s) for t, s in pairwise(levels) if math.isfinite(s.lam - t.lam)]
    gaps = [gap for gap, *_ in steps]
    beside = [max(gaps[max(i - 1, 0) : i] + gaps[i + 1 : i + 2], default=0.0) for i in range(len(gaps))]
    found = [
        Nearest(gap, gap / near, t, s) for (gap, t, s), near in zip(steps, beside, strict=True) if near > 0
    ]
    return min(found, key=lambda step: step.share, default=None)


def warn_of_near_levels(
    solver: object, levels: Sequence[Level[float]], amplification: Callable[[], float]
) -> None:
    """Warn where two levels are nearly equal and the solver's weights are therefore huge.

    Args:
        solver: named in the warning.
        levels: the levels of the grid.
        amplification: computes :attr:`Plan.amplification`; it is called only for near levels.

    Warns:
        UserWarning: names the two levels, and says how large the error is.
    """
    near = nearest(levels)
    if near and near.share < NEAR and (size := amplification()) > LARGE:
        warnings.warn(
            f"levels {near}: the weights of {solver} reach {size:.2g} for this step. They multiply the "
            f"difference of two outputs, fresh noise, and in float32 a rounding, to about "
            f"{6e-8 * size:.1g} of an output; leave out one of the two levels",
            stacklevel=3,
        )


def no_step(solver: object, sde: SDE, levels: Sequence[Level[float]]) -> str:
    """The message for a solver that has no finite step on these levels."""
    near = nearest(levels)
    if near and near.gap < COINCIDE:
        return f"{solver} has no finite step between levels that coincide: {near}; leave out one of the two"
    return (
        f"{solver} has no finite step on {sde}: where alpha or sigma is 0, use a spacing or an SDE that "
        f"does not reach that level (sde.clip), or a solver that can start there (ddim)"
    )
