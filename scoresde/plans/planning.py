"""What the levels of a run allow: how many steps fit a budget, and which levels are too near one another."""

import math
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..processes.level import Level
from ..processes.sde import SDE

NEAR = 1e-2  # a step of this share of a step beside it joins levels that are nearly equal


COINCIDE = 1e-9  # in lambda


LARGE = 1e4  # weights by which the roundings of float32 are about a thousandth of an output


def longest(nfe: int, low: int, high: int, calls: Callable[[int], int]) -> int:
    """Of ``low`` to ``high`` steps the most that make at most ``nfe`` calls; ``low`` of them do.

    A number of steps for which there is no run is an error only where the run should have had as many.
    """
    steps, best = low, calls(low)
    count = best
    refused: ValueError | None = None
    while low < high and best < nfe:
        # Calls are nearly proportional to steps: a few tries will do.
        steps = (low + high + 1) // 2 if refused else min(max(steps * nfe // count, low + 1), high)
        try:
            count = calls(steps)
        except ValueError as error:
            refused, high = refused or error, steps - 1
            continue
        if count <= nfe:
            low, best = steps, count
        else:
            high, refused = steps - 1, None
    if refused and best * (low + 1) <= nfe * low:  # another step should have fitted
        raise refused
    return low


class Nearest(NamedTuple):
    """The step that is the shortest beside its neighbours: its length in lambda, and its share of theirs."""

    gap: float
    share: float
    t: Level[float]
    s: Level[float]

    def __str__(self) -> str:
        return f"t = {self.t.t!r} and t = {self.s.t!r} are {self.gap:.2g} apart in lambda"


def nearest(levels: Sequence[Level[float]]) -> Nearest | None:
    """The two levels of a grid that are nearest to each other; None of fewer than two steps."""
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
    """Warn where weights are huge for two levels that are nearly equal."""
    near = nearest(levels)
    if near and near.share < NEAR and (size := amplification()) > LARGE:
        warnings.warn(
            f"levels {near}: for it the weights of {solver} reach {size:.2g}, by which they multiply what "
            f"two outputs of the network differ by, fresh noise, and in float32 a rounding, to about "
            f"{6e-8 * size:.1g} of an output; leave one of the two levels out",
            stacklevel=3,
        )


def no_step(solver: object, sde: SDE, levels: Sequence[Level[float]]) -> str:
    """Why a solver has no finite step on these levels."""
    near = nearest(levels)
    if near and near.gap < COINCIDE:
        return f"{solver} has no finite step between levels that coincide: {near}; leave one of the two out"
    return (
        f"{solver} has no finite step on {sde}: where alpha or sigma is 0, use a spacing or an SDE that "
        f"keeps away from it (sde.clip), or a solver that can start there (ddim)"
    )
