"""Successive halving: the best tables by their error on more and more noise samples."""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from .candidates import Candidate
from .pairs import Pairs
from .table import Table

ROUND_SAMPLES = (16, 64, 256)  # noise samples of each round
REDUCTION = 4  # a round keeps one candidate in four


def table_errors(table: Table, denoiser: DenoiserLike, pairs: Pairs, batch_size: int) -> Tensor:
    """The mean square error of each sample, ``(M,)`` in float64 on the host; inf where it is not finite."""
    misses = [table.run(denoiser, part.x, part.cond) - part.target for part in pairs.batches(batch_size)]
    squares = torch.cat([exact(one).square().flatten(1).mean(1).cpu() for one in misses])
    return torch.where(torch.isfinite(squares), squares, math.inf)


def successive_halving(
    candidates: Sequence[Candidate], denoiser: DenoiserLike, pairs: Pairs, batch_size: int, keep: int = 3
) -> list[tuple[Candidate, float]]:
    """The ``keep`` best candidates with their root mean square errors, best first.

    Jamieson and Talwalkar 2016 (arXiv 1502.07943).
    """
    ranked = [(candidate, math.inf) for candidate in candidates]
    rounds = [samples for samples in ROUND_SAMPLES[:-1] if samples < len(pairs)]
    for samples in (*rounds, min(ROUND_SAMPLES[-1], len(pairs))):
        remaining = max(keep, -(-len(ranked) // REDUCTION))
        if samples in rounds and len(ranked) <= remaining:
            continue  # this round would drop no candidate
        part = pairs[:samples]
        scored = [
            (candidate, float(table_errors(candidate.table, denoiser, part, batch_size).mean().sqrt()))
            for candidate, _ in ranked
        ]
        ranked = sorted(scored, key=lambda one: one[1])[:remaining]
    return ranked[:keep]


def halving_per_group(
    candidates: Sequence[Candidate],
    group: Callable[[Candidate], Hashable],
    denoiser: DenoiserLike,
    pairs: Pairs,
    batch_size: int,
    keep: int = 1,
) -> list[tuple[Candidate, float]]:
    """The ``keep`` best of each group, best first: a fit may improve most on a table that is not the best."""
    groups: dict[Hashable, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(group(candidate), []).append(candidate)
    best = [
        one
        for members in groups.values()
        for one in successive_halving(members, denoiser, pairs, batch_size, keep)
    ]
    return sorted(best, key=lambda one: one[1])
