"""Derivatives of a table's ends with respect to its numbers: forward differences that reuse a run."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike
from ..processes.level import Level
from .pairs import Pairs
from .table import Numbers, Table

STEP = 3e-4  # default difference step: relative to the state's rms; for a level, in the half log-SNR
ROUNDING_STEP = 1e-3  # relative step so small that third differences measure rounding only

Entry = tuple[str, int, int]  # kind ("first", "decay", "weight" or "level"), row, column


def difference_step(denoiser: DenoiserLike, x: Tensor, level: Level[float], cond: Condition = None) -> float:
    """The difference step that suits a network's rounding: max(3e-4, sqrt(eps) / 2).

    eps is the relative rounding error of D. It is estimated from the third differences of D((1 + i h) x), i =
    0 ... 3, whose variance is 20 times that of one value (Moré and Wild 2011, "Estimating computational
    noise", SIAM Journal on Scientific Computing 33, 1292-1314; they compare several orders of differences).
    The type of the network alone does not give eps: products of float32 may be computed in TF32.

    Args:
        denoiser: the network.
        x: states ``(B, ...)`` at the level.
        level: a noise level.
        cond: conditions ``(B, ...)``, if there are any.
    """
    d = [denoiser((1 + i * ROUNDING_STEP) * x, level, cond) for i in range(4)]
    third = d[3] - 3 * d[2] + 3 * d[1] - d[0]
    rounding = float(rms(third) / rms(d[0])) / math.sqrt(20)
    return max(STEP, math.sqrt(rounding) / 2)


def table_entries(table: Table, mask: Numbers) -> list[Entry]:
    """The numbers of a table to differentiate by; of the weights, only those where ``mask`` is not 0."""
    n = table.nfe
    weights = [("weight", i, j) for i in range(n) for j in range(i + 1) if mask[i, j]]
    return [
        ("first", 0, 0),
        *(("decay", i, 0) for i in range(n)),
        *weights,
        *(("level", i, 0) for i in range(n)),
    ]


def entry_values(table: Table, entries: Sequence[Entry]) -> Numbers:
    """The values of these numbers in a table; of a level, its half log-SNR."""

    def value(kind: str, i: int, j: int) -> float:
        if kind == "level":
            return table.levels[i].lam
        return table.first if kind == "first" else table.decay[i] if kind == "decay" else table.weights[i, j]

    return np.array([value(*entry) for entry in entries])


def derivatives(
    table: Table,
    denoiser: DenoiserLike,
    pairs: Pairs,
    entries: Sequence[Entry],
    step: float = STEP,
) -> tuple[Tensor, Tensor]:
    """The ends of runs, ``(B, ...)``, and their derivatives by the entries, ``(len(entries), B, ...)``.

    Calls that an entry does not influence are reused: for a weight of row n, only the calls after row n are
    repeated. The last row needs no call, because the end is linear in it.
    """
    points, outputs = table.rollout(denoiser, [table.first * pairs.x], [], pairs.cond)
    made = torch.empty(len(entries), *points[-1].shape, dtype=points[-1].dtype, device=points[-1].device)
    for place, (kind, i, j) in enumerate(entries):
        if kind == "level":
            lam = table.levels[i].lam
            by = step if lam + step <= table.levels[-1].lam else -step
            moved_table = table.with_level(i, denoiser.sde.level_of(lam + by))
            end = moved_table.rollout(denoiser, points[: i + 1], outputs[:i], pairs.cond)[0][-1]
            made[place] = (end - points[-1]) / by
            continue
        direction = pairs.x if kind == "first" else points[i] if kind == "decay" else outputs[j]
        n = 0 if kind == "first" else i + 1
        if n == table.nfe:
            made[place] = direction
            continue
        size = step * (rms(points[n]) / rms(direction))
        moved = points[n] + size * direction
        end = table.rollout(denoiser, [*points[:n], moved], outputs[:n], pairs.cond)[0][-1]
        made[place] = (end - points[-1]) / size
    return points[-1], made


def rms(x: Tensor) -> Tensor:
    """The root mean square, as a tensor on the device of x."""
    return x.square().mean().sqrt()
