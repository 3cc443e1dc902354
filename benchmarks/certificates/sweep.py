"""Runs of many lengths, to both ends, in both precisions: finite, with the planned calls, and alike."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from known import relative

from certificates.depth import FEW, PROBLEMS, ROUNDING, Array, Record
from certificates.law import law_errors
from certificates.runs import carry, is_adaptive, of_length
from scoresde import Level, Plan
from scoresde.solvers.integrators.base import Integration

PAIR, SPREAD = 0.9, 0.3  # the data: two normal distributions with means -PAIR and PAIR and this deviation
PRECISIONS = np.dtype(np.float32), np.dtype(np.float64)


def pair(x: Array, level: Level[Any], rows: Any = None) -> Array:
    """E[x_0 | x_t] of the pair, in the type of x. It is not linear, and costs a fifth of the mixture's."""
    var = (level.alpha * SPREAD) ** 2 + level.sigma**2
    gain = level.alpha * SPREAD**2 / var
    side = (1 - level.alpha * gain) * PAIR * np.tanh(level.alpha * PAIR / var * x)
    mean: Array = (gain * x + side).astype(x.dtype, copy=False)
    return mean


def swept(solver: Any, problem: str, steps: Sequence[int]) -> Record:
    """The number of runs made, the differences between the precisions, and the faults.

    A run has ``steps`` steps if the solver is a table, or at most so many calls. The differences are by the
    number of steps, of tables only, and relative to the end. The states at the noisy end are as large as
    sigma, but the flow contracts them, with their rounding, to the size of the end.
    """
    sde, spacing = PROBLEMS[problem]
    draws = np.random.default_rng(0).standard_normal((64, 8, 1), np.float32)  # long runs use them again
    points = np.linspace(-2, 2, 8)[:, None]
    combinations, found, differences = 0, list[str](), dict[int, float]()
    for n, to_clean in product((None,) if is_adaptive(solver, sde) else steps, (False, True)):
        if (run := of_length(solver, sde, n, spacing, to_clean)) is None:
            continue
        x = (math.hypot(run.start.alpha, run.start.sigma) * points).astype(np.float32)
        what = f"{n or 'its own'} steps{' to clean' * to_clean}"
        ends = []
        for precision in PRECISIONS:
            end, made = _ended(run, x.astype(precision), draws.astype(precision))
            ends.append(end)
            combinations += 1
            if not (np.isfinite(end).all() and end.dtype == precision):
                found.append(f"sweep: no finite {precision} after {what}")
            if run.nfe not in (None, made) or (isinstance(run, Integration) and n and made > n):
                found.append(f"sweep: {made} calls, {run.nfe} planned, in {precision}, {what}")
        if isinstance(run, Plan) and n and math.isfinite(difference := relative(*ends)):
            differences[n] = max(difference, differences.get(n, 0.0))
            if not difference <= _allowed(run, n, difference):
                found.append(f"float32: {difference:.1e} off after {what}")
    return {"combinations": combinations, "float32": differences, "faults": found}


def _ended(run: Plan | Integration, x: Array, draws: Array) -> tuple[Array, int]:
    """The end of a run on the pair, and the number of calls."""
    made = 0

    def denoise(x: Array, level: Level[Any], rows: Any = None) -> Array:
        nonlocal made
        made += 1
        return pair(x, level)

    return carry(run, denoise, x, lambda i: draws[i % len(draws)]), made


def _allowed(plan: Plan, n: int, difference: float) -> float:
    """The largest difference between the precisions.

    The error in float32 is at most the error in float64 plus this difference, and must be at most 10 times
    the error in float64 plus ROUNDING.
    """
    return ROUNDING + (9 * law_errors(plan)[0] if n < FEW and difference > ROUNDING else 0.0)
