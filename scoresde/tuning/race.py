"""Which levels and which solver are best for a number of calls: all are tried, on the noises of a pilot."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

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
    (50, ("velocity-p3c4", "velocity-p5c6")),
)
MANY = 30  # calls; in longer runs, which cost more, only every second scale is tried

COST = 15_000  # network evaluations for a number of calls, at most
ROUNDS = 3
BEST, FINALISTS = 3, 4  # levels of each kind that reach the second round; candidates that reach the third
CUT = 0.3  # the share of the smallest and of the largest errors that the middle leaves out
TAIL = 0.65  # the weight of the root mean square in the score
ELSEWHERE = 0.5  # a sample whose error is more than so many spreads ends elsewhere, in another mode
PENALTY = 10.0  # of the share of such samples


@dataclass(frozen=True)
class Entry:
    """A solver on levels."""

    solver: str
    levels: str  # a name for people
    spacing: FlowTime | AtShares


# The errors of a candidate on the samples from a number to another, without the last.
Errors = Callable[[Entry, int, int], Numbers]


def race(pilot: Pilot, calls: int, errors: Errors, price: int) -> tuple[Entry, Numbers]:
    """The best levels and solver by :func:`score`, and their errors on the samples of the last two rounds.

    1. All measured levels and all powers of flow time, each with the solvers that suit the calls.
    2. The best of both, and the means of a measured and a power: each level's share is the mean of two.
    3. The best of these, on more samples.

    Each round spends a third of the cost, on samples of its own.

    Args:
        pilot: the pilot.
        calls: network calls of a run of each candidate.
        errors: of a candidate.
        price: network evaluations for the exact end of a sample beyond those of the pilot.
    """
    solvers = next(names for most, names in SOLVERS if calls <= most)
    kinds = [
        [Entry(solver, name, at) for name, at in levels.items() for solver in solvers]
        for levels in (measured_levels(pilot), powers_for(calls))
    ]
    first = new_samples(0, calls * sum(map(len, kinds)), pilot, price)
    measured, powers = (best_levels({one: errors(one, 0, first) for one in kind}) for kind in kinds)
    means = [mean_of(pilot, a, b) for a, b in product(measured, powers)]
    second = [*measured, *powers, *means]
    middle = first + new_samples(first, calls * len(second), pilot, price)
    seen = {one: errors(one, first, middle) for one in second}
    third = sorted(seen, key=lambda one: score(seen[one]))[:FINALISTS]
    last = middle + new_samples(middle, calls * len(third), pilot, price)
    seen = {one: np.concatenate([seen[one], errors(one, middle, last)]) for one in third}
    best = min(seen, key=lambda one: score(seen[one]))
    return best, seen[best]


def score(errors: Numbers) -> float:
    """How bad the errors of samples are, by most of them and by the worst.

    It is a mean of the logarithms of their middle and of their root mean square, and a penalty. The middle is
    the mean logarithm of the errors between the quantiles .3 and .7: it follows the median, with less
    variance. A few samples make the root mean square, so that a race on some hundred noises sees it roughly;
    still, candidates chosen with its larger weight are better by it on other noises, and nearly as good by
    the median. A percent of samples that end elsewhere counts as much as errors that are larger by a tenth.

    Args:
        errors: over the spread of the samples, ``(B,)``.
    """
    logs = np.sort(np.log(np.maximum(errors, 1e-15)))
    cut = int(CUT * len(logs))
    middle = logs[cut : len(logs) - cut].mean()
    tail = math.log(np.exp(2 * logs).mean()) / 2
    return float((1 - TAIL) * middle + TAIL * tail + PENALTY * (errors > ELSEWHERE).mean())


POWERS: dict[str, FlowTime] = {
    f"flow-time, e = {e:g}, c = {c:g}": FlowTime(e, c) for e in EXPONENTS for c in SCALES
}


def powers_for(calls: int) -> dict[str, FlowTime]:
    """The powers of flow time that are tried for a number of calls."""
    few = SCALES if calls <= MANY else SCALES[::2]
    return {name: one for name, one in POWERS.items() if one.scale in few}


def measured_levels(pilot: Pilot) -> dict[str, AtShares]:
    """The levels of equal errors, for each order and floor."""
    return {
        f"measured, k = {order}, floor {floor:g}": pilot.levels(order, floor)
        for order, floor in product(ORDERS, FLOORS)
    }


def best_levels(errors: dict[Entry, Numbers]) -> list[Entry]:
    """The best candidates on different levels, each with its best solver."""
    found: dict[str, Entry] = {}
    for one in sorted(errors, key=lambda one: score(errors[one])):
        found.setdefault(one.levels, one)
    return list(found.values())[:BEST]


def mean_of(pilot: Pilot, measured: Entry, power: Entry) -> Entry:
    """The levels between measured ones and a power of flow time, with the solver of the measured ones."""
    assert isinstance(measured.spacing, AtShares)
    assert isinstance(power.spacing, FlowTime)
    shares = (np.array(measured.spacing.shares) + power.spacing.shares(pilot.u)) / 2
    spacing = AtShares(measured.spacing.u, [0.0, *shares[1:-1].tolist(), 1.0])
    return Entry(measured.solver, f"mean of {measured.levels}, and {power.levels}", spacing)


def new_samples(first: int, cost: int, pilot: Pilot, price: int) -> int:
    """How many samples from number ``first`` on a round can pay for, at least 1; ``cost`` is that of one."""
    spent = COST // ROUNDS
    cheap = min(spent // cost, max(len(pilot.pairs) - first, 0))
    dear = (spent - cheap * cost) // (cost + price) if first + cheap >= len(pilot.pairs) else 0
    return max(cheap + dear, 1)
