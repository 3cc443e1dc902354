"""The second road: solvers of general differential equations, torchdiffeq's, torchsde's and scipy's, on ours.

Where the steps are not known before the run there is no table to write down. These solvers own their loop; we
give them the probability-flow ODE or the reverse SDE, count their network calls and keep them within the
SDE's times.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...plans.executor import Denoise, Draw
from ...plans.planning import longest
from ...processes.level import Level
from ...processes.sde import SDE
from ...spacings.catalogue import steps_of
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid, check_budget


@dataclass(frozen=True)
class Integration:
    """A prepared run: what to do with a state at ``start``; ``nfe`` None where only the run can tell.

    ``integrate(denoise, x, noise)`` takes a ``denoise(x, level)``; that of a run which asks for every sample
    at a level of its own is called ``denoise(x, level, rows)``, too: row k of x is then a state of sample
    ``rows[k]`` of the batch, at number k of each of the level's float64 tensors ``(len(x),)``.
    """

    start: Level[float]
    end: Level[float]
    nfe: int | None
    integrate: Callable[[Any, Any, Draw], Any]
    stochastic: bool = False


class NotDone(RuntimeError, ValueError):
    """A run by tolerance needs more network calls than it was given."""


class Integrator(ABC):
    """A solver that runs its own loop: it prepares an :class:`Integration` in place of a plan."""

    @abstractmethod
    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run within ``nfe`` network calls; ValueError if there is none."""


def begun(grid: Grid, what: str) -> Grid:
    """The grid, if there is some data at its beginning: where alpha is 0, x / alpha and f are infinite."""
    if grid.levels[0].alpha == 0:
        raise ValueError(f"{what} has no beginning where alpha = 0; clip {grid.sde}")
    return grid


def _longest(nfe: int, calls: Callable[[int], int], what: str, spacing: Spacing | str | None) -> int:
    """The most steps within a budget of network calls; of listed times, their own."""
    listed = steps_of(spacing)
    low, high = listed or 1, listed or nfe
    if not listed:
        check_budget(nfe)
    if nfe < calls(low):
        raise ValueError(f"nfe must be at least {calls(low)} for {what}, got {nfe}")
    return longest(nfe, low, high, calls)


def _limited(denoise: Denoise, nfe: int | None, solver: Integrator) -> Denoise:
    left = math.inf if nfe is None else nfe

    def call(x: Any, level: Level[float]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise NotDone(
                f"{solver} is not done after {nfe} network calls, at t = {level.t:.4g}; raise nfe, or the "
                f"tolerances"
            )
        return denoise(x, level)

    return call


def worst(x: Tensor) -> Tensor:
    """The largest root mean square of a sample."""
    return x.flatten(1).square().mean(1).sqrt().max() if x.ndim > 1 else x.abs().max()
