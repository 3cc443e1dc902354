"""From a solver to lines: the lines of a solver on a grid, and the longest run within a budget."""

import math
from collections.abc import Callable

import numpy as np

from ..spacings.grid import Grid
from .near_levels import no_step
from .tape import Line, Solver, Tape


def written(solver: Solver, grid: Grid) -> list[Line]:
    """The lines that a solver writes on a grid; the last one is a state.

    Raises:
        TypeError: ``solver`` is not a solver that is a table.
        ValueError: the solver has no finite step on the grid, or calls no network.
    """
    if isinstance(solver, type) or not hasattr(solver, "solve"):
        raise TypeError(f"solver must be a solver that is a table, such as solver_of('ddim'), got {solver!r}")
    tape = Tape()
    try:
        with np.errstate(all="ignore"):  # weights that are not finite are found below
            end = solver.solve(tape, tape.start(), grid)
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(no_step(solver, grid.sde, grid.levels)) from error
    if not any(line.level for line in tape.lines):
        raise ValueError(f"{solver} calls no network in a run of {len(grid.levels) - 1} steps")
    last = tape.lines[-1]
    if last.kind != "state" or end.row != ((last.name, 1.0),):
        tape.state(end)
    rows = [row for line in tape.lines for row in (line.row, line.measured[0] if line.measured else ())]
    if not all(math.isfinite(weight) for row in rows for _, weight in row):
        raise ValueError(no_step(solver, grid.sde, grid.levels))
    return tape.lines


def longest(nfe: int, low: int, high: int, calls: Callable[[int], int]) -> int:
    """The largest number of steps in [low, high] whose run makes at most ``nfe`` calls.

    A ValueError of ``calls`` for a number of steps is raised only if that run should have fitted.

    Args:
        nfe: the budget of network calls.
        low: a number of steps whose run fits.
        high: the largest number of steps to consider.
        calls: the number of network calls of a run, by its number of steps.
    """
    steps, best = low, calls(low)
    count = best
    refused: ValueError | None = None
    while low < high and best < nfe:
        # Calls are nearly proportional to steps, so a few trials suffice.
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
    if refused and best * (low + 1) <= nfe * low:  # one more step should have fitted
        raise refused
    return low
