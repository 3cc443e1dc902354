"""Derivatives of a table's ends by its numbers, by forward differences that begin where a change does."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..processes.level import Level
from .pairs import Pairs
from .table import Numbers, Table

STEP = 3e-4  # of a difference, of the state's own size; in half log-SNR, of a level
TINY = 1e-3  # changes in which a network shows its rounding alone


def step_for(denoiser: DenoiserLike, x: Tensor, level: Level[float], cond: Tensor | None = None) -> float:
    """The step of differences that suits a network's rounding: sqrt(eps) / 2, and at least 3e-4.

    eps is the rounding of D, relative: that of the third differences of D((1 + i h) x), i = 0 ... 3, whose
    variance is 20 times one value's (Moré and Wild 2011, "Estimating computational noise", SIAM Journal on
    Scientific Computing 33, 1292-1314; they take many orders of differences, and of these the ones that
    agree). Not all networks are as precise as their type: products of float32 may be in TF32.

    Args:
        x: states ``(B, ...)`` at the level.
    """
    d = [denoiser((1 + i * TINY) * x, level, cond) for i in range(4)]
    third = d[3] - 3 * d[2] + 3 * d[1] - d[0]
    rounding = float(rms(third) / rms(d[0])) / math.sqrt(20)
    return max(STEP, math.sqrt(rounding) / 2)


def entries(table: Table, mask: Numbers) -> list[tuple[str, int, int]]:
    """The numbers of a table that differences are taken of: of the weights, those where ``mask`` is set."""
    n = table.nfe
    weights = [("weight", i, j) for i in range(n) for j in range(i + 1) if mask[i, j]]
    return [
        ("first", 0, 0),
        *(("keep", i, 0) for i in range(n)),
        *weights,
        *(("level", i, 0) for i in range(n)),
    ]


def flat(table: Table, chosen: Sequence[tuple[str, int, int]]) -> Numbers:
    """These numbers, of a table."""

    def number(kind: str, i: int, j: int) -> float:
        if kind == "level":
            return table.levels[i].lam
        return table.first if kind == "first" else table.keep[i] if kind == "keep" else table.weights[i, j]

    return np.array([number(*entry) for entry in chosen])


def derivatives(
    table: Table,
    denoiser: DenoiserLike,
    pairs: Pairs,
    chosen: Sequence[tuple[str, int, int]],
    step: float = STEP,
) -> tuple[Tensor, Tensor]:
    """The ends of runs, ``(B, ...)``, and their derivatives by the chosen numbers, ``(len(chosen), B, ...)``.

    What a number does not change is not computed again: of a weight of row n, only the calls after it are;
    and the last row is linear.
    """
    points, outputs = table.roll(denoiser, [table.first * pairs.x], [], pairs.cond)
    made = torch.empty(len(chosen), *points[-1].shape, dtype=points[-1].dtype, device=points[-1].device)
    for place, (kind, i, j) in enumerate(chosen):
        if kind == "level":
            at = table.levels[i].lam
            up = step if at + step <= table.levels[-1].lam else -step
            told = table.tell(i, denoiser.sde.level_of(at + up))
            end = told.roll(denoiser, points[: i + 1], outputs[:i], pairs.cond)[0][-1]
            made[place] = (end - points[-1]) / up
            continue
        direction = pairs.x if kind == "first" else points[i] if kind == "keep" else outputs[j]
        n = 0 if kind == "first" else i + 1
        if n == table.nfe:
            made[place] = direction
            continue
        by = step * (rms(points[n]) / rms(direction))
        moved = points[n] + by * direction
        end = table.roll(denoiser, [*points[:n], moved], outputs[:n], pairs.cond)[0][-1]
        made[place] = (end - points[-1]) / by
    return points[-1], made


def rms(x: Tensor) -> Tensor:
    """Root mean square, a number that stays on its device."""
    return x.square().mean().sqrt()
