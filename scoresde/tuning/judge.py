"""The tuned table beside the best stock solver, on noises that neither has seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from ..plans.plan import Plan
from ..solvers.catalogue import SOLVERS
from .descent import Descent
from .gate import Interval, bootstrap, difference_of_bands, log_ratio, root, with_unseen
from .heats import family_of
from .kept import State
from .objective import Bands
from .pairs import Map, Pairs, squares
from .race import Entrant, errors, stock
from .report import Report
from .table import Numbers, Table
from .task import FEW, Task, variance_of

Entrants = list[Entrant]

SOME = 256  # noises that stock solvers of more calls are compared on
CALLS = 3  # times as many, at most, as the table takes; of these stock solvers


@dataclass(frozen=True, eq=False)
class Measured:
    """What each of M samples shows of a table."""

    squares: Numbers  # (M, 1): mean square error of every sample
    seen: Numbers  # the same, of what is perceived of it
    energies: Numbers  # (M, bands)

    @property
    def finite(self) -> bool:
        """Are all ends numbers?"""
        return bool(np.isfinite(self.squares).all())


def judged(
    task: Task, start: Entrant, tuned: Table, descent: Descent, stocks: Entrants, test: Pairs, state: State
) -> tuple[Plan, Report]:
    """The plan that won on held-out noises, and the figures."""
    measure = partial(_measured_on, task, test, Bands.of(test.target, task.settings.bands or 8))
    ours, target = measure(tuned), measure(None)
    best, theirs = _best(stocks, measure)
    if not ours.finite:  # it has lost, and nothing else can be said of it
        tuned, ours = best.table, theirs
    gain = bootstrap(log_ratio, ours.seen, theirs.seen)
    band_gain = bootstrap(difference_of_bands, ours.energies, theirs.energies, target.energies)
    won = gain.high < 0 and not band_gain.low > 0
    chosen = ours if won else theirs
    equivalent, searched = stock_calls(task, stocks, test, chosen.squares, state.certificate.calls)
    report = Report(
        nfe=task.nfe,
        tuned=won,
        start=start.name,
        stock=best.name,
        rmse=bootstrap(root, ours.squares),
        stock_rmse=bootstrap(root, theirs.squares),
        gain=gain,
        bands=_ratio(ours.energies, target.energies),
        stock_bands=_ratio(theirs.energies, target.energies),
        band_gain=band_gain,
        coupling=_coupling(bootstrap(root, chosen.squares, level=0.9), math.prod(task.shape)),
        equivalent=equivalent,
        searched=searched,
        teacher=state.certificate,
        samples=task.sizes,
        parameters=len(family_of(start).places(task.settings.groups)),
        training=descent.history,
        calls=0,
        seconds=0.0,
        network=task.network,
        unseen=with_unseen(float(chosen.squares.mean()), len(test), variance_of(test.target)),
    )
    about = {**task.network, "nfe": task.nfe, "seed": task.seed, "tuned": won}
    return replace((tuned if won else best.table).plan(), about=about), report


def stock_calls(
    task: Task, stocks: Entrants, pairs: Pairs, ours: Numbers, most: int
) -> tuple[int | None, int]:
    """The least calls at which a good stock solver is as near the teacher, of those up to 3 x nfe.

    On the network itself, not on its draft. Those that are far off on a few noises are not tried on more.
    """
    most = min(CALLS * task.nfe, most // 2)
    few, more = pairs[:FEW], pairs[:SOME]

    def near(entrant: Entrant, part: Pairs, times: float = 1.0) -> bool:
        theirs = errors(entrant.table, task.denoiser, part, task.batch_size).mean()
        return float(theirs) <= times * float(ours[: len(part)].mean())

    for nfe in range(task.nfe, most + 1):
        for name, spacing in {(one.solver, one.spacing): None for one in stocks[:3]}:
            for entrant in stock(task.sde, nfe, {name: SOLVERS[name]}, [spacing]):
                if near(entrant, few, times=2.0) and near(entrant, more):
                    return nfe, most
    return None, most


def measured(
    table: Table | None,
    denoiser: DenoiserLike,
    pairs: Pairs,
    bands: Bands,
    perceive: Map | None,
    batch_size: int,
) -> Measured:
    """Errors and energies of every sample; of the targets themselves, without a table."""
    missed, seen, energies = [], [], []
    for part in pairs.batches(batch_size):
        ends = part.target if table is None else table.run(denoiser, part.x, part.cond)
        missed.append(squares(exact(ends), exact(part.target))[:, None].cpu())
        seen.append(squares(ends, part.target, perceive)[:, None].cpu().double() if perceive else missed[-1])
        energies.append(bands.each(bands.turned(ends)).cpu())
    return Measured(torch.cat(missed).numpy(), torch.cat(seen).numpy(), torch.cat(energies).numpy())


def _coupling(rmse: Interval, size: int) -> tuple[float, float]:
    """W2 at most, of samples of so many numbers: estimate, and upper end."""
    return math.sqrt(size) * rmse.value, math.sqrt(size) * rmse.high


def _ratio(energies: Numbers, targets: Numbers) -> tuple[float, ...]:
    return tuple((energies.mean(0) / targets.mean(0)).tolist())


def _measured_on(task: Task, pairs: Pairs, bands: Bands, table: Table | None) -> Measured:
    return measured(table, task.denoiser, pairs, bands, task.perceive, task.batch_size)


def _best(stocks: Entrants, measure: Callable[[Table], Measured]) -> tuple[Entrant, Measured]:
    """The best stock solver whose ends are all finite."""
    for entrant in stocks:
        found = measure(entrant.table)
        if found.finite:
            return entrant, found
    raise FloatingPointError(f"no stock solver's ends are all finite on {len(found.squares)} held-out noises")
