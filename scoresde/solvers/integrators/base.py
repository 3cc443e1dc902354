"""Solvers that run their own loop: steps that are chosen during the run, or that another library takes.

Where the steps are not known before the run, no table can be written. An integrator receives the
probability-flow ODE or the reverse SDE. The run that it prepares counts its network calls and stays within
the times of the SDE.
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
    """A prepared run. ``integrate(denoise, x, noise)`` carries x from ``start`` to ``end``.

    Args:
        start: the level of the state that the run begins with.
        end: the level of its result.
        nfe: the number of network calls; None if it is known after the run only.
        integrate: the run itself. It calls ``denoise(x, level)``. An integrator with one level per sample
            calls ``denoise(x, level, rows)`` too: row k of x is a state of sample ``rows[k]`` of the batch,
            and its level is number k of the float64 tensors ``(len(x),)`` of ``level``.
        stochastic: whether the run draws noise.
    """

    start: Level[float]
    end: Level[float]
    nfe: int | None
    integrate: Callable[[Any, Any, Draw], Any]
    stochastic: bool = False


class NotDone(RuntimeError, ValueError):
    """A run by tolerance needs more network calls than its limit ``nfe``."""


class Integrator(ABC):
    """A solver that runs its own loop: it prepares an :class:`Integration` in place of a plan."""

    @abstractmethod
    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run within ``nfe`` network calls; ValueError if no run fits."""


def build_grid(sde: SDE, spacing: Spacing | str | None, steps: int | None = None) -> Grid:
    """The grid of a run: of ``steps`` steps, or else of the listed times, or of its two ends."""
    return Grid.build(sde, steps or steps_of(spacing) or 1, spacing)


def most_steps(nfe: int, calls: Callable[[int], int], what: str, spacing: Spacing | str | None) -> int:
    """The largest number of steps within a budget of network calls; listed times fix the number."""
    listed = steps_of(spacing)
    low, high = listed or 1, listed or nfe
    if not listed:
        check_budget(nfe)
    if nfe < calls(low):
        raise ValueError(f"nfe must be at least {calls(low)} for {what}, got {nfe}")
    return longest(nfe, low, high, calls)


def from_pure_noise(denoise: Denoise, x: Tensor, z: Tensor, t: Level[float], s: Level[float]) -> Tensor:
    """A step from a level t where alpha = 0 to s, exact if the data is the network's estimate: one call.

    z is the noise at s: that of x, for the ODE, or fresh noise, for the reverse SDE.
    """
    state: Tensor = s.alpha * denoise(x.clone(), t) + s.sigma * z
    return state


def limited(denoise: Denoise, nfe: int | None, solver: Integrator) -> Denoise:
    """The same denoiser, which raises :class:`NotDone` in the call after ``nfe`` calls."""
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
