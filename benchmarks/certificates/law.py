"""Errors of a run: on the probability-flow ODE of a mixture, and of its law on normal data."""

import math
from collections.abc import Mapping
from itertools import pairwise, takewhile
from typing import Any

import numpy as np
from known import mixture, reference, relative

from certificates.depth import FLOOR, SAMPLES, Array
from certificates.runs import carry, draws_of
from scoresde import Level, Plan
from scoresde.solvers.integrators.base import Integration

# Mean and deviations of the data. An error may change its sign at one deviation, but not at all of them.
MEAN = 0.7
DEVIATIONS = np.array([[0.0], [0.25], [0.5], [1.0]])


def order_of(errors: Mapping[Any, float]) -> float | None:
    """The measured order: the larger slope of the last two doublings with errors above FLOOR.

    Two doublings, because an error may pass through zero in one.

    Args:
        errors: by the number of steps, in increasing order.

    Returns:
        None if fewer than two errors at the beginning are above FLOOR.

    Raises:
        FloatingPointError: an error is not finite.
    """
    if not all(map(math.isfinite, errors.values())):
        raise FloatingPointError(f"an error is not finite: {errors}")
    seen = list(takewhile(lambda item: item[1] > FLOOR, errors.items()))
    slopes = [math.log(e / f) / math.log(n / m) for (m, e), (n, f) in pairwise(seen)]
    return max(slopes[-2:], default=None)


def ode_error(run: Plan | Integration, sde: str) -> float:
    """The relative error on the mixture, of a run that draws no noise."""
    x, exact, _ = reference(sde)
    return relative(carry(run, mixture, x), exact)


def normal_denoiser(x: Array, level: Level[Any], mean: Any, std: Array) -> Array:
    """E[x_0 | x_t] of N(mean, std^2): gain x + (1 - alpha gain) mean, gain = alpha std^2 / var(x_t)."""
    gain = level.alpha * std**2 / ((level.alpha * std) ** 2 + level.sigma**2)
    found: Array = gain * x + (1 - level.alpha * gain) * mean
    return found


def law_errors(run: Plan | Integration) -> tuple[float, float]:
    """The errors of a run's law: on normal data, and on a point mass.

    A run on normal data is linear in its noise. The state holds the coefficients of 1, of the noise at the
    start, and of every draw; one row for each deviation of the data. So mean and deviation at the end are
    exact. The error is the distance of both to the true ones, relative to hypot(alpha, sigma).
    """
    width = 2 + draws_of(run)

    def unit(i: int) -> Array:
        rows = np.zeros((len(DEVIATIONS), width))
        rows[:, i] = 1
        return rows

    one = unit(0)

    def denoise(x: Array, level: Level[Any], rows: Any = slice(None)) -> Array:
        return normal_denoiser(x, level, MEAN * one[rows], DEVIATIONS[rows])

    def law(level: Level[float]) -> tuple[float, Array]:
        return level.alpha * MEAN, np.hypot(level.alpha * DEVIATIONS, level.sigma)

    mean, std = law(run.start)
    end = carry(run, denoise, mean * one + std * unit(1), lambda i: unit(2 + i))
    mean, std = law(run.end)
    errors = np.hypot(end[:, 0] - mean, np.linalg.norm(end[:, 1:], axis=1) - std[:, 0])
    errors /= math.hypot(run.end.alpha, run.end.sigma)
    return math.sqrt((errors[1:] ** 2).mean()), float(errors[0])


def sampled_law(run: Plan | Integration) -> tuple[float, float]:
    """The same errors from SAMPLES samples: on data of deviation 0.5, and on a point mass."""
    draw = np.random.default_rng(0)
    data = np.repeat([[0.5], [0.0]], SAMPLES, 0)

    def denoise(x: Array, level: Level[Any], rows: Any = slice(None)) -> Array:
        return normal_denoiser(x, level, MEAN, data[rows])

    start, end = run.start, run.end
    x = start.alpha * MEAN + np.hypot(start.alpha * data, start.sigma) * draw.standard_normal(data.shape)
    found = carry(run, denoise, x, lambda i: draw.standard_normal(data.shape)).reshape(2, -1)
    std = np.hypot(end.alpha * data[::SAMPLES, 0], end.sigma)
    errors = np.hypot(found.mean(1) - end.alpha * MEAN, found.std(1) - std) / math.hypot(end.alpha, end.sigma)
    return float(errors[0]), float(errors[1])
