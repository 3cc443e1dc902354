"""Before the fit: a teacher that is accurate enough, the best stock solvers, and the tables to start from."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from .candidates import FIRST_STEP_RATIOS, Candidate, family_of, named, scaled_by_data, tunable_candidates
from .pairs import Pairs
from .saved import StateFolder, TeacherTargets, TuningState
from .successive_halving import halving_per_group, successive_halving, table_errors
from .task import SCREEN_SAMPLES, Task, variance_of
from .teacher import MAX_ERROR_SHARE, TeacherCheck, converged_teacher, teacher_pairs

STOCK_PER_SPACING = 3  # stock solvers of each spacing that stay candidates
MORE_SAMPLES_FOR = 8  # of these, how many are compared on more noise samples
FIRST_TEACHER_CALLS = 32  # doubled until they are enough
DEVIATION_CALLS = 8  # of the run whose ends give the deviation of the data

Error = Callable[[Pairs], float]
Save = Callable[[TuningState], None]


def data_deviation(task: Task, pairs: Pairs) -> float:
    """The standard deviation of the data, to two digits, if a spacing needs it; else 1."""
    if not any(map(scaled_by_data, task.settings.spacings)):
        return 1.0
    few = pairs[:SCREEN_SAMPLES]
    ends = teacher_pairs(task.denoiser, few.x, few.cond, DEVIATION_CALLS, task.batch_size).target
    found = float(f"{math.sqrt(variance_of(ends)):.2g}")
    return found if 0 < found < math.inf else 1.0  # no stock solver will be finite, or all are exact


def prepare_teacher(
    task: Task,
    candidates: list[Candidate],
    pairs: Pairs,
    folder: StateFolder,
    state: TuningState | None,
    save: Save,
) -> tuple[TeacherTargets, TuningState]:
    """The targets, and the state with the stock candidates that may be the best.

    A saved teacher is taken if it is accurate enough, and a saved ``state`` if it is of the saved teacher. A
    new state is saved before its targets: a tuning that is killed between the two computes the same targets
    again.
    """
    saved = folder.teacher()
    if saved is not None and state is not None and saved.calls == state.teacher.calls:
        return saved, state
    task.progress.begin("teacher")
    ranked: list[tuple[Candidate, float]] = []

    def least_error(pairs: Pairs) -> float:
        """The error of the best stock solver: first of all of them, then of those that may be the best."""
        remaining, few = [candidate for candidate, _ in ranked] or candidates, pairs[:SCREEN_SAMPLES]
        ranked[:] = halving_per_group(
            remaining, _spacing, task.draft, few, task.batch_size, keep=STOCK_PER_SPACING
        )
        best, error = ranked[0]
        if task.draft is task.denoiser:
            return error
        return float(table_errors(best.table, task.denoiser, few, task.batch_size).mean().sqrt())

    share = math.inf
    if saved is not None:
        share = saved.difference / least_error(replace(pairs, target=saved.target.to(task.device)))
    if saved is not None and share < MAX_ERROR_SHARE:
        targets, check = saved, TeacherCheck(saved.calls, saved.difference, share)
    else:
        targets, check = _new_targets(task, pairs, least_error, 0 if saved is None else saved.calls)
    state = TuningState(check, [candidate.name for candidate, _ in ranked], [], [])
    save(state)
    if targets is not saved:
        folder.save(targets)
    return targets, state


def screen(
    task: Task, candidates: list[Candidate], train: Pairs, state: TuningState, variance: float
) -> None:
    """Write to the state the best stock candidates, and the tunable ones that the fit starts from."""
    remaining, few, size = named(state.stock, candidates), train[:SCREEN_SAMPLES], task.batch_size
    ranked = successive_halving(remaining, task.draft, train, size, keep=MORE_SAMPLES_FOR)
    best = [candidate for candidate, _ in ranked]
    stocks = best + [candidate for candidate in remaining if candidate not in best]
    # As many of each first level: an analytical first step is worse before the fit, and better after it.
    each = math.ceil(task.settings.starts / (1 + len(FIRST_STEP_RATIOS)))
    starts = halving_per_group(all_tunable(task, stocks, variance), _first_level, task.draft, few, size, each)
    plain = [candidate for candidate, _ in starts if not family_of(candidate).has_first_step]
    others = [candidate for candidate, _ in starts if family_of(candidate).has_first_step]
    state.stock = [candidate.name for candidate in stocks]
    state.starts = [candidate.name for candidate in (*plain, *others)][: task.settings.starts]


def all_tunable(task: Task, stocks: list[Candidate], variance: float) -> list[Candidate]:
    """The tunable candidates of the stock candidates."""
    ratios = FIRST_STEP_RATIOS if "first_step" in task.settings.groups else ()
    return [
        tunable
        for candidate in stocks
        for tunable in tunable_candidates(
            candidate, task.sde, task.nfe, variance, task.settings.window, ratios
        )
    ]


def _new_targets(
    task: Task, pairs: Pairs, least_error: Error, calls: int
) -> tuple[TeacherTargets, TeacherCheck]:
    """The targets of a teacher of at least ``calls`` calls.

    The teacher is checked on all samples of the fit: a few that end in another mode may make most of its
    error.
    """
    fitted = pairs[: sum(task.settings.sizes[:2])]
    rest = pairs[len(fitted) :]
    first = FIRST_TEACHER_CALLS
    while first < task.nfe:
        first *= 2
    size = task.batch_size
    checked, check = converged_teacher(
        task.denoiser, fitted.x, fitted.cond, max(first, calls), least_error, size
    )
    others = teacher_pairs(task.denoiser, rest.x, rest.cond, check.calls, size)
    target = torch.cat([checked.target, others.target]).cpu()
    return TeacherTargets(target, check.calls, check.difference), check


def _spacing(candidate: Candidate) -> str:
    return candidate.spacing


def _first_level(candidate: Candidate) -> float:
    return round(family_of(candidate).lams[0], 6)
