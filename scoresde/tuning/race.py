"""Which levels and which solver are best for a number of calls: all are tried, on the noises of a pilot."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..spacings.flow_time import FlowTime
from ..spacings.measured import AtShares
from .pilot import ORDERS, Pilot
from .table import Numbers

FLOORS = (0.1, 0.2, 0.3)
EXPONENTS = (1.5, 2.0, 3.0)
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)

# From the most calls of a run to the solvers that may suit it.
SOLVERS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (14, ("velocity-p2c3", "velocity-p3c4")),
    (30, ("velocity-p3c4", "velocity-p5c6")),
    (50, ("velocity-p5c6",)),
)

COST = 15_000  # network evaluations for a number of calls, at most
ROUNDS = (3, 4)  # after each of the first rounds one candidate in so many remains; the last one decides
CUT = 0.3  # the share of the smallest and of the largest errors that the middle leaves out
TAIL = 0.1  # the weight of the root mean square in the score


@dataclass(frozen=True)
class Entry:
    """A solver on levels."""

    solver: str
    levels: str  # a name for people
    spacing: FlowTime | AtShares


def entries(pilot: Pilot, calls: int) -> list[Entry]:
    """All candidates for a number of calls."""
    spacings: dict[str, FlowTime | AtShares] = {
        f"measured, k = {order}, floor {floor:g}": pilot.levels(order, floor)
        for order in ORDERS
        for floor in FLOORS
    }
    spacings |= {f"flow-time, e = {e:g}, c = {c:g}": FlowTime(e, c) for e in EXPONENTS for c in SCALES}
    solvers = next(names for most, names in SOLVERS if calls <= most)
    return [Entry(solver, name, spacing) for name, spacing in spacings.items() for solver in solvers]


def score(errors: Numbers) -> float:
    """How bad the errors of samples are: the logarithm of their middle, and a little of that of their RMS.

    The middle is the mean logarithm of the errors between the quantiles .3 and .7. It follows the median,
    with less variance. The root mean square is made by the few samples that end in another mode; its weight
    decides between candidates that are otherwise nearly equal.
    """
    logs = np.sort(np.log(np.maximum(errors, 1e-15)))
    cut = int(CUT * len(logs))
    middle = logs[cut : len(logs) - cut].mean()
    return float((1 - TAIL) * middle + TAIL / 2 * math.log(np.exp(2 * logs).mean()))


def race(
    candidates: Sequence[Entry],
    calls: int,
    errors: Callable[[Entry, int, int], Numbers],
    free: int,
    price: int,
) -> tuple[Entry, Numbers]:
    """The best candidate by :func:`score`, and the errors of the samples that it was seen on.

    Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943): each round spends a third of the cost
    on new samples, and only the best candidates go on to the next.

    Args:
        candidates: at least one.
        calls: network calls of a run of each.
        errors: of a candidate on the samples from a number to another, without the last.
        free: the number of samples whose exact ends are known.
        price: network evaluations for the exact end of each further sample.
    """
    left, first = list(candidates), 0
    seen: dict[Entry, Numbers] = {one: np.empty(0) for one in left}
    for keep in (*ROUNDS, len(left)):
        last = first + new_samples(first, len(left) * calls, free, price)
        seen = {one: np.concatenate([seen[one], errors(one, first, last)]) for one in left}
        left = sorted(left, key=lambda one: score(seen[one]))[: -(-len(left) // keep)]
        first = last
    return left[0], seen[left[0]]


def new_samples(first: int, cost: int, free: int, price: int) -> int:
    """How many samples from number ``first`` on a round can pay for, at least 1; ``cost`` is that of one."""
    spent = COST / (len(ROUNDS) + 1)
    cheap = min(int(spent // cost), max(free - first, 0))
    dear = int((spent - cheap * cost) // (cost + price)) if first + cheap >= free else 0
    return max(cheap + dear, 1)
