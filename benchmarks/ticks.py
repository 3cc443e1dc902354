"""Numbers on log axes that a reader knows at a glance: 0.05, 2, 1,000; never none, never one upon another."""

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator


def plain_ticks(axes: Axes, preferred: Sequence[float] = (), up: bool = True, apart: float = 0.055) -> None:
    """Ticks within the limits, which must be final: along x the preferred ones first; along y if ``up``.

    Two are at least ``apart`` of the axis from each other.
    """
    _set(axes.xaxis, *axes.get_xlim(), apart, preferred)
    if up:
        _set(axes.yaxis, *axes.get_ylim(), apart, ())


def _set(axis: Axis, low: float, high: float, apart: float, preferred: Sequence[float]) -> None:
    ticks = ticks_within(low, high, apart, preferred)
    axis.set_ticks(ticks, [number(tick) for tick in ticks])
    axis.set_ticks([], minor=True)


def ticks_within(low: float, high: float, apart: float, preferred: Sequence[float] = ()) -> list[float]:
    """At most about ten numbers from low to high, ``apart`` of the log axis from each other."""
    found: list[float] = []
    length = math.log(high / low)
    for tick in (*preferred, *_round(low, high)):
        near = any(abs(math.log(tick / other)) < apart * length for other in found)
        if low <= tick <= high and not near and (tick in preferred or len(found) < 8):
            found.append(tick)
    if len(found) < 3 and not preferred:  # the numbers lie within a decade
        found = [
            tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high
        ]
    return sorted(found)


def _round(low: float, high: float) -> Iterator[float]:
    """Round numbers, the roundest first."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for lead in (1, 5, 2):
        yield from (float(f"{lead}e{k}") for k in decades)


def number(value: float) -> str:
    """A number in plain digits, or, of more than ten, as a power of ten."""
    if not 1e-5 < value < 1e7:
        return f"{value:.0e}"
    return f"{round(value, 10):,.10f}".rstrip("0").rstrip(".")
