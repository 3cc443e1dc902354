"""Plain numbers on log axes, as 0.05, 2, 1,000: no axis without numbers, no numbers that overlap."""

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator


def plain_ticks(axes: Axes, preferred: Sequence[float] = (), up: bool = True, apart: float = 0.055) -> None:
    """Set the ticks of both axes, or of x alone if not ``up``. The limits of the axes must be final.

    Args:
        axes: of the picture.
        preferred: numbers that come first on x.
        up: set the ticks of y, too.
        apart: least distance between two ticks, as a part of the axis.
    """
    _set(axes.xaxis, *axes.get_xlim(), apart, preferred)
    if up:
        _set(axes.yaxis, *axes.get_ylim(), apart, ())


def _set(axis: Axis, low: float, high: float, apart: float, preferred: Sequence[float]) -> None:
    ticks = ticks_within(low, high, apart, preferred)
    axis.set_ticks(ticks, [number(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def ticks_within(low: float, high: float, apart: float, preferred: Sequence[float] = ()) -> list[float]:
    """At most about ten numbers from low to high, at least ``apart`` of the log axis from each other."""
    found: list[float] = []
    length = math.log(high / low)
    for tick in (*preferred, *_round(low, high)):
        near = any(abs(math.log(tick / other)) < apart * length for other in found)
        if low <= tick <= high and not near and (tick in preferred or len(found) < 8):
            found.append(tick)
    if len(found) < 3 and not preferred:  # the axis is shorter than a decade
        found = [
            tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high
        ]
    return sorted(found)


def _round(low: float, high: float) -> Iterator[float]:
    """Round numbers: first powers of ten, then 5 and 2 times these."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for lead in (1, 5, 2):
        yield from (float(f"{lead}e{k}") for k in decades)


def number(value: float) -> str:
    """A number in plain digits, or, if it is very small or large, as a power of ten."""
    if not 1e-5 < value < 1e7:
        return f"{value:.0e}"
    return f"{round(value, 10):,.10f}".rstrip("0").rstrip(".")
