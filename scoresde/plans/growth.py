"""How far the samples of a run spread on normal data, by the weights of its plan alone."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ..processes.level import Level
from .names import START
from .plan import Plan
from .tape import Line
from .vector import Row

DEVIATIONS = (1 / 2, 1 / 4, 1 / 10)  # of the components of the data: wide, as images in [-1, 1], and narrow


def growth(plan: Plan, deviations: Sequence[float] = DEVIATIONS) -> float:
    """The deviation at the end of a run on data N(0, diag(s^2)), divided by the exact one.

    It is sqrt(sum of v_k / sum of (alpha^2 s_k^2 + sigma^2)), v_k the variance of component k at the end. On
    such data the network is linear, and the end of a run is a sum of its start and its noise.

    Args:
        plan: the run.
        deviations: s, the positive deviations of the components.
    """
    ends = [_end_deviation(plan, deviation**2) for deviation in deviations]
    return math.hypot(*ends) / exact_deviation(plan.end, deviations)


def exact_deviation(level: Level[float], deviations: Sequence[float]) -> float:
    """The deviation of that data at a noise level: sqrt(sum of (alpha^2 s_k^2 + sigma^2))."""
    return math.hypot(*(math.hypot(level.alpha * deviation, level.sigma) for deviation in deviations))


def normal_gain(level: Level[Any], variance: Any) -> Any:
    """The factor of E[x_0 | x_t] = factor x_t for data N(0, c): alpha c / (alpha^2 c + sigma^2)."""
    return level.alpha * variance / (level.alpha**2 * variance + level.sigma**2)


def _end_deviation(plan: Plan, variance: float) -> float:
    """The deviation at the end on data N(0, c).

    The weights of the start and of the noise at the end follow from the lines in reverse order, in a time
    proportional to the number of terms. A Langevin step that is sized by norms is taken at the norm that the
    exact score has.
    """
    levels = {line.name: line.level for line in plan.lines if line.level is not None}
    weights = defaultdict(float, {plan.lines[-1].name: 1.0})
    for line in reversed(plan.lines):
        weight = weights.pop(line.name, 0.0)
        if line.level is not None:
            weight *= normal_gain(line.level, variance)
        for name, factor in _langevin_row(line, levels, variance) if line.measured else line.row:
            weights[name] += weight * factor
    return math.hypot(weights.pop(START, 0.0) * plan.start.sigma, *weights.values())


def _langevin_row(line: Line, levels: dict[str, Level[float]], variance: float) -> Row:
    """x + e score + sqrt(2 e) z as a row: e = 2 (snr / |score|)^2, |score|^2 = 1 / (alpha^2 c + sigma^2)."""
    score, snr = line.measured or ((), 0.0)
    level = next(levels[name] for name, _ in score if name in levels)
    e = 2 * snr**2 * (level.alpha**2 * variance + level.sigma**2)
    (noise, _) = line.row[-1]
    return (*line.row[:-1], *((name, e * weight) for name, weight in score), (noise, math.sqrt(2 * e)))
