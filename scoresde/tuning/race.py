"""The stock solvers and spacings, raced against each other on one's own network."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.sde import SDE
from ..solvers.catalogue import SOLVERS
from ..solvers.integrators.base import Integrator
from ..spacings.catalogue import spacing_of
from ..spacings.composed import Clipped
from .family import Family
from .pairs import Pairs
from .table import Table

SPACINGS = (
    "uniform-lambda",
    "karras:rho=3",
    "karras:rho=5",
    "karras:rho=7",
    "karras:rho=9",
    "uniform-t",
    "quadratic-t",
    "beta",
    "align-your-steps",
)
FREE = (40.0, 20.0, 10.0, 5.0, 2.5)  # sigma / alpha that a free first step reaches, over the data's deviation
ROUNDS = (16, 64, 256)  # noises that each heat is run on
KEPT = 4  # one entrant in so many goes on to the next


@dataclass(frozen=True, eq=False)
class Entrant:
    """A solver on a spacing, as a table; with a ``family`` it can be tuned."""

    name: str
    solver: str
    spacing: str
    table: Table
    family: Family | None = None


def stock(
    sde: SDE,
    nfe: int,
    solvers: Mapping[str, Solver | Integrator] = SOLVERS,
    spacings: Sequence[str] = SPACINGS,
) -> list[Entrant]:
    """All solvers that make a deterministic plan, on all spacings that let them; of equals, the first."""
    made = {name: spacing_of(name) for name in spacings}
    found: dict[tuple[float, ...], Entrant] = {}
    for name, solver in solvers.items():
        if isinstance(solver, Integrator):
            continue
        for spacing in spacings:
            try:
                table = _from_start(Table.read(Plan.within(nfe, solver, sde, made[spacing])), sde)
            except ValueError:
                continue
            found.setdefault(table.digits, Entrant(f"{name} on {spacing}", name, spacing, table))
    return list(found.values())


def _from_start(table: Table, sde: SDE) -> Table:
    """A table that begins later than the SDE does, told to begin with the SDE's noise."""
    begin = sde.level_at(sde.t_max)
    return replace(table, start=begin, first=table.first * table.start.sigma / begin.sigma)


def freed(
    entrant: Entrant, sde: SDE, nfe: int, variance: float, window: int, ratios: Sequence[float] = FREE
) -> list[Entrant]:
    """An entrant as families: as it is, and with a free first step to each of a few levels, ``ratios``."""
    solver = SOLVERS[entrant.solver]
    assert not isinstance(solver, Integrator)
    begin, made = sde.lam_at(sde.t_max), []
    for ratio in (math.inf, *ratios):
        lam = -math.log(ratio) - math.log(variance) / 2 if ratio < math.inf else begin
        if lam < begin or math.isinf(lam) or (lam == begin and ratio < math.inf):
            continue
        spacing = spacing_of(entrant.spacing)
        spacing = Clipped(spacing, lam) if lam > begin else spacing
        try:
            *lams, _ = sde.lam(spacing(sde, nfe)).tolist()  # and the end is the SDE's, not that of a list
            family = Family(sde, solver, (*lams, sde.lam_at(sde.t_min)), variance, window)
            table = family.start
        except ValueError:
            continue
        if table.nfe != nfe:
            continue
        name = entrant.name + (f", free to sigma / alpha = {math.exp(-lam):.3g}" if lam > begin else "")
        made.append(Entrant(name, entrant.solver, entrant.spacing, table, family))
    return made


def errors(table: Table, denoiser: DenoiserLike, pairs: Pairs, batch_size: int) -> Tensor:
    """The mean square, over a sample, of what a table's ends miss the targets by, ``(M,)`` in float64."""
    missed = [table.run(denoiser, part.x, part.cond) - part.target for part in pairs.batches(batch_size)]
    squares = torch.cat([exact(one).square().flatten(1).mean(1).cpu() for one in missed])
    return torch.where(torch.isfinite(squares), squares, math.inf)


def race(
    entered: Sequence[Entrant], denoiser: DenoiserLike, pairs: Pairs, batch_size: int, keep: int = 3
) -> list[tuple[Entrant, float]]:
    """The best few by root mean square error, best first, by successive halving on more and more pairs.

    Jamieson and Talwalkar 2016 (arXiv 1502.07943).
    """
    ranked = [(entrant, math.inf) for entrant in entered]
    rounds = [noises for noises in ROUNDS[:-1] if noises < len(pairs)]
    for noises in (*rounds, min(ROUNDS[-1], len(pairs))):
        left = max(keep, -(-len(ranked) // KEPT))
        if noises in rounds and len(ranked) <= left:
            continue  # no entrant would leave
        part = pairs[:noises]
        scored = [
            (entrant, float(errors(entrant.table, denoiser, part, batch_size).mean().sqrt()))
            for entrant, _ in ranked
        ]
        ranked = sorted(scored, key=lambda one: one[1])[:left]
    return ranked[:keep]


def race_each(
    entered: Sequence[Entrant],
    key: Callable[[Entrant], Hashable],
    denoiser: DenoiserLike,
    pairs: Pairs,
    batch_size: int,
    keep: int = 1,
) -> list[tuple[Entrant, float]]:
    """The best few of each key, best first, for a fit may take further what is not the best before it."""
    groups: dict[Hashable, list[Entrant]] = {}
    for entrant in entered:
        groups.setdefault(key(entrant), []).append(entrant)
    best = [one for group in groups.values() for one in race(group, denoiser, pairs, batch_size, keep)]
    return sorted(best, key=lambda one: one[1])
