"""Runs of other projects' samplers within a budget, on every grid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from lines import Record
from peer_grids import GRIDS, OWN
from peer_samplers import PeerSampler
from torch import Tensor

from scoresde.denoisers.exact import ExactDenoiser
from scoresde.plans.executor import Draw
from scoresde.processes.level import Level
from scoresde.spacings import Grid, UniformLambda

PeerRun = tuple[PeerSampler, str]  # a sampler, and the name of its grid
ITSELF = "its own levels"  # the grid of a sampler that chooses its levels


def runs_of(
    samplers: Iterable[PeerSampler], installed: Mapping[str, str], grids: Iterable[str] | None = None
) -> dict[str, PeerRun]:
    """By name, each sampler of the installed projects on each grid, by default on all.

    A sampler that chooses its levels runs once.
    """
    return {
        f"{sampler.label} on {grid}": (sampler, grid)
        for sampler in samplers
        if sampler.project in installed
        for grid in ((ITSELF,) if sampler.own_levels else GRIDS if grids is None else grids)
    }


def on_own_grid(process: str, grid: str) -> bool:
    """Is this one of the grids that other projects have for the process?"""
    return grid == ITSELF or grid in OWN[process]


class TooManyCallsError(Exception):
    """A sampler asks for more network calls than its budget."""


def peer_ends(
    denoiser: ExactDenoiser, x: Tensor, run: PeerRun, nfe: int, noise: Draw
) -> tuple[Tensor, int] | None:
    """The ends of a peer's run from the states x and its network calls; None if it does not fit.

    It does not fit if it needs more than ``nfe`` calls, or if its list of levels is not inside the range.
    """
    (sampler, name), calls = run, 0
    steps = sampler.steps(nfe)
    grid = GRIDS.get(name, UniformLambda())
    try:
        levels = Grid.build(denoiser.sde, steps, grid).levels if steps else ()
    except ValueError:
        return None

    def denoise(x: Tensor, level: Level[Any]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > nfe:
            raise TooManyCallsError
        return denoiser(x, level)

    try:
        with torch.no_grad():
            return (sampler.peer(steps)(denoise, levels, x, noise), calls) if levels else None
    except TooManyCallsError:
        return None


def best_names(found: Mapping[str, Record], figures: Sequence[str], count: int) -> list[str]:
    """The names of the records with the smallest figures, so many for each figure."""
    best: list[str] = []
    for figure in figures:
        best += sorted(found, key=lambda name: float(found[name][figure]))[:count]
    return list(dict.fromkeys(best))
