"""The decision: the tuned table beside the best stock solver, on held-out noise samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ..devices import exact
from ..plans.plan import Plan
from ..solvers.catalogue import SOLVERS
from .bands import Bands
from .candidates import Candidate, family_of, stock_candidates
from .confidence import Interval, band_difference, bootstrap, log_rmse_ratio, root_mean, with_unseen
from .levenberg_marquardt import LMState
from .pairs import Pairs, squared_errors
from .report import Report
from .saved import TuningState
from .successive_halving import table_errors
from .table import Numbers, Table
from .task import SCREEN_SAMPLES, Task, variance_of

MORE_SAMPLES = 256  # noise samples on which stock solvers of more calls are compared
MORE_CALLS = 3  # stock solvers of up to 3 x nfe calls are compared


@dataclass(frozen=True, eq=False)
class HeldOutErrors:
    """The errors of a table on each of M samples.

    Args:
        squares: the mean square error, ``(M, 1)``.
        feature_squares: the same in features, ``(M, 1)``.
        energies: in bands, ``(M, bands)``.
    """

    squares: Numbers
    feature_squares: Numbers
    energies: Numbers

    @property
    def finite(self) -> bool:
        """Are all ends finite?"""
        return bool(np.isfinite(self.squares).all())


Measure = Callable[[Table | None], HeldOutErrors]


def measured(task: Task, pairs: Pairs, bands: Bands, table: Table | None) -> HeldOutErrors:
    """The errors and energies of a table; of the targets themselves without a table."""
    squares, feature_squares, energies = [], [], []
    for part in pairs.batches(task.batch_size):
        ends = part.target if table is None else table.run(task.denoiser, part.x, part.cond)
        squares.append(squared_errors(exact(ends), exact(part.target))[:, None].cpu())
        if task.feature_map is None:
            feature_squares.append(squares[-1])
        else:
            found = squared_errors(ends, part.target, task.feature_map)
            feature_squares.append(found[:, None].cpu().double())
        energies.append(bands.energies(bands.project(ends)).cpu())
    return HeldOutErrors(
        torch.cat(squares).numpy(), torch.cat(feature_squares).numpy(), torch.cat(energies).numpy()
    )


def compare_held_out(
    task: Task,
    start: Candidate,
    tuned: Table,
    reached: LMState,
    stocks: list[Candidate],
    test: Pairs,
    state: TuningState,
    measure: Measure | None = None,
) -> tuple[Plan, Report]:
    """The better plan on held-out pairs, and the report.

    The tuned plan is better if both hold with 95 % confidence:

    1. Its error is lower than that of the best stock solver, in features.
    2. Its band error is not higher.

    Args:
        task: the network and the settings.
        start: the candidate that the fit started from.
        tuned: the table of the fit.
        reached: the state of its optimization.
        stocks: the best stock candidates, best first.
        test: the held-out pairs.
        state: of the tuning.
        measure: gives the errors of a table on ``test``; default, :func:`measured`.

    Raises:
        FloatingPointError: no stock candidate has finite ends.
    """
    measure = measure or partial(measured, task, test, Bands.of(test.target, task.settings.bands or 8))
    ours, target = measure(tuned), measure(None)
    best, theirs = _best_finite(stocks, measure)
    if not ours.finite:  # it has lost; the report compares the stock solver with itself
        tuned, ours = best.table, theirs
    figures = _figures(ours, theirs, target)
    won = figures["log_rmse_ratio"].high < 0 and not figures["band_difference"].low > 0
    chosen = ours if won else theirs
    equivalent, searched = equivalent_calls(task, stocks, test, chosen.squares, state.teacher.calls)
    report = Report(
        nfe=task.nfe,
        tuned=won,
        start=start.name,
        stock=best.name,
        **figures,
        w2_bound=_w2_bound(bootstrap(root_mean, chosen.squares, level=0.9), math.prod(task.shape)),
        equivalent_calls=equivalent,
        equivalent_searched_up_to=searched,
        teacher=state.teacher,
        samples=task.settings.sizes,
        parameters=len(family_of(start).indices(task.settings.groups)),
        training=reached.history,
        calls=0,
        seconds=0.0,
        network=task.network,
        rmse_with_unseen=with_unseen(float(chosen.squares.mean()), len(test), variance_of(test.target)),
    )
    about = {**task.network, "nfe": task.nfe, "seed": task.seed, "tuned": won}
    return replace((tuned if won else best.table).plan(), about=about), report


def equivalent_calls(
    task: Task, stocks: list[Candidate], pairs: Pairs, squares: Numbers, most: int
) -> tuple[int | None, int]:
    """The least calls at which one of the three best stock solvers is as accurate, and the most tried.

    The errors are those of the network itself, not of its draft. A solver that is far off on a few samples is
    not tried on more.
    """
    most = min(MORE_CALLS * task.nfe, most // 2)
    few, more = pairs[:SCREEN_SAMPLES], pairs[:MORE_SAMPLES]

    def as_accurate(candidate: Candidate, part: Pairs, factor: float = 1.0) -> bool:
        theirs = table_errors(candidate.table, task.denoiser, part, task.batch_size).mean()
        return float(theirs) <= factor * float(squares[: len(part)].mean())

    for nfe in range(task.nfe, most + 1):
        for (solver, spacing), levels in {
            (one.solver, one.spacing): one.levels for one in stocks[:3]
        }.items():
            for candidate in stock_candidates(task.sde, nfe, {solver: SOLVERS[solver]}, {spacing: levels}):
                if as_accurate(candidate, few, factor=2.0) and as_accurate(candidate, more):
                    return nfe, most
    return None, most


def _figures(ours: HeldOutErrors, theirs: HeldOutErrors, target: HeldOutErrors) -> dict[str, Any]:
    """The figures of a report that compare two tables, by the names of its fields."""
    return {
        "rmse": bootstrap(root_mean, ours.squares),
        "stock_rmse": bootstrap(root_mean, theirs.squares),
        "log_rmse_ratio": bootstrap(log_rmse_ratio, ours.feature_squares, theirs.feature_squares),
        "bands": _energy_ratios(ours.energies, target.energies),
        "stock_bands": _energy_ratios(theirs.energies, target.energies),
        "band_difference": bootstrap(band_difference, ours.energies, theirs.energies, target.energies),
    }


def _w2_bound(rmse: Interval, size: int) -> tuple[float, float]:
    """A bound on W2 for samples of ``size`` numbers: estimate and upper end."""
    return math.sqrt(size) * rmse.value, math.sqrt(size) * rmse.high


def _energy_ratios(energies: Numbers, targets: Numbers) -> tuple[float, ...]:
    return tuple((energies.mean(0) / targets.mean(0)).tolist())


def _best_finite(stocks: list[Candidate], measure: Measure) -> tuple[Candidate, HeldOutErrors]:
    """The best stock candidate whose ends are all finite."""
    for candidate in stocks:
        found = measure(candidate.table)
        if found.finite:
            return candidate, found
    raise FloatingPointError(
        f"no stock solver's ends are all finite on {len(found.squares)} held-out samples"
    )
