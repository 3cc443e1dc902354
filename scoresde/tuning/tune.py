"""From a network and a budget of calls to a tuned plan, and what is known of it."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.protocol import DenoiserLike
from ..plans.plan import Plan
from .heats import family_of, fitted
from .judge import judged
from .kept import Folder, State, Teacher
from .pairs import Map, Pairs
from .race import FREE, Entrant, errors, freed, race, race_each, stock
from .report import Report
from .settings import Settings, check_budget
from .task import FEW, Task, variance_of
from .teacher import SHARE, Certificate, certify, taught
from .watched import Bar, Watched, expected

__all__ = ["check_budget", "tune"]

SURVIVORS = 3  # stock solvers of each spacing, that starts are made of
BEST = 8  # of these, that are raced on more noises
FIRST_TEACHER = 32  # calls, doubled until they are enough


@torch.no_grad()
def tune(
    denoiser: DenoiserLike,
    nfe: int,
    shape: Sequence[int],
    *,
    cond: Tensor | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    draft: DenoiserLike | None = None,
    perceive: Map | None = None,
    state: str | Path | None = None,
    progress: bool = False,
) -> tuple[Plan, Report]:
    """The best table of ``nfe`` network calls for one's own network, by measurement.

    A converged teacher shows where noises end (:func:`scoresde.tuning.teacher.certify`); all stock solvers
    race for the best, and for three to begin with; Levenberg-Marquardt fits levels and weights
    (:class:`scoresde.tuning.family.Family`, :class:`scoresde.tuning.descent.Descending`), without
    backpropagation. On held-out noises, which the fit did not use, the result is compared with the best stock
    solver, whose plan is returned unless the tuned one is better there, with 95 % confidence. A test on n
    noises cannot exclude a miss in up to 3 / n of all samples; the report says what it would cost.

    Kin: BNS (Shaul et al. 2024, arXiv 2403.01329), S4S (arXiv 2502.17423), LD3 (arXiv 2405.15506).

    Args:
        denoiser: what is to be sampled from, in eval mode.
        nfe: network calls, at least 2.
        shape: of one sample.
        cond: ``(K, ...)``, conditions in the mix that is to be sampled; noise i has condition i mod K.
        seed: of the noises.
        settings: default, :class:`Settings`.
        batch_size: samples at a time.
        device: of the state.
        draft: the same network at a lower cost (in low precision, say), for the race. Teacher, fit and
            report are the denoiser's own: rounding hides the small differences that a fit is made of.
        perceive: a map from samples ``(B, ...)`` to features ``(B, ...)`` that the errors of the fit, and of
            the decision, are taken of; default, the samples. Not one that the results are then measured in.
        state: a folder that the tuning goes on from, and is written to after every iteration; a teacher that
            is there serves other budgets too.
        progress: show a progress bar, of network evaluations.

    Raises:
        ValueError: a budget of less than 2 calls, or no fewer than the teacher's; fewer samples than
            parameters; a network in training mode, or whose calls differ; a teacher that does not converge;
            a state that is of another tuning, or damaged.
        FloatingPointError: the network's output is not finite, or the ends of no stock solver are.
    """
    settings = settings or Settings()
    check_budget(nfe, settings)
    with tqdm(unit="evaluation", disable=not progress, smoothing=0.1) as shown:
        bar = Bar(shown)
        watched = Watched(denoiser, bar)
        cheap = watched if draft is None else Watched(draft, bar)
        where = torch.device(device)
        task = Task(watched, cheap, perceive, nfe, tuple(shape), cond, seed, settings, batch_size, where)
        made = _run(task, Folder(None if state is None else Path(state), task))
        bar.done()
        return made


def _run(task: Task, folder: Folder) -> tuple[Plan, Report]:
    begun, bar = time.perf_counter(), task.denoiser.bar
    pairs = task.noises()
    task.check(pairs)
    entered = stock(task.sde, task.nfe, task.solvers, task.settings.spacings)
    if not entered:
        names = ", ".join(task.solvers)
        raise ValueError(f"none of {names} makes a deterministic plan of {task.nfe} calls on these spacings")
    bar.expect(expected(task.nfe, task.settings, len(entered)))
    old = folder.state()
    calls, seconds = (old.calls, old.seconds) if old else (0, 0.0)

    def save(state: State) -> None:
        made = {id(one): one.count for one in (task.denoiser, task.draft)}
        state.calls = calls + sum(made.values())
        state.seconds = seconds + time.perf_counter() - begun
        folder.keep(state)

    teacher, state = _taught(task, entered, pairs, folder, old, save)
    parts = task.parts(replace(pairs, target=teacher.target.to(task.device)))
    variance = variance_of(parts[0].target)
    if not state.starts:
        bar.begin("race")
        _race(task, entered, parts[0], state, variance)
        save(state)
    stocks = _by_name(state.stock, entered)
    starts = _by_name(state.starts, _families(task, stocks, variance))
    bar.begin("fit")
    start, best = fitted(task, starts, parts, state, partial(save, state))
    bar.begin("held-out noises")
    plan, report = judged(
        task, start, family_of(start).table(np.array(best.best)), best, stocks, parts[2], state
    )
    save(state)
    return plan, replace(report, calls=state.calls, seconds=state.seconds)


def _taught(
    task: Task,
    entered: list[Entrant],
    pairs: Pairs,
    folder: Folder,
    old: State | None,
    save: Callable[[State], None],
) -> tuple[Teacher, State]:
    """The teacher, one that is there if it is good enough, and the stock solvers that may be the best.

    The state is written before its teacher: killed between the two, the same teacher is made again.
    """
    known = folder.teacher()
    if known is not None and old is not None and known.calls == old.certificate.calls:
        return known, old
    task.denoiser.bar.begin("teacher")
    ranked: list[tuple[Entrant, float]] = []

    def least(pairs: Pairs) -> float:
        """The error of the best stock solver, of all at first, then of those that may be the best."""
        left, few = [entrant for entrant, _ in ranked] or entered, pairs[:FEW]
        ranked[:] = race_each(left, _spacing, task.draft, few, task.batch_size, keep=SURVIVORS)
        best, error = ranked[0]
        if task.draft is task.denoiser:
            return error
        return float(errors(best.table, task.denoiser, few, task.batch_size).mean().sqrt())

    share = math.inf
    if known is not None:
        share = known.difference / least(replace(pairs, target=known.target.to(task.device)))
    if known is not None and share < SHARE:
        teacher, certificate = known, Certificate(known.calls, known.difference, share)
    else:
        teacher, certificate = _certified(task, pairs, least, 0 if known is None else known.calls)
    state = State(certificate, [entrant.name for entrant, _ in ranked], [], [])
    save(state)
    if teacher is not known:
        folder.keep(teacher)
    return teacher, state


def _certified(
    task: Task, pairs: Pairs, least: Callable[[Pairs], float], calls: int
) -> tuple[Teacher, Certificate]:
    """A teacher of at least so many calls."""
    # Of all noises of the fit: a few that end in another mode may be most of a teacher's error.
    fitted = pairs[: sum(task.sizes[:2])]
    rest = pairs[len(fitted) :]
    first = FIRST_TEACHER
    while first < task.nfe:
        first *= 2
    size = task.batch_size
    taken, certificate = certify(task.denoiser, fitted.x, fitted.cond, max(first, calls), least, size)
    others = taught(task.denoiser, rest.x, rest.cond, certificate.calls, size)
    target = torch.cat([taken.target, others.target]).cpu()
    return Teacher(target, certificate.calls, certificate.difference), certificate


def _race(task: Task, entered: list[Entrant], train: Pairs, state: State, variance: float) -> None:
    """The best stock solvers, and what to start from."""
    left, few, size = _by_name(state.stock, entered), train[:FEW], task.batch_size
    best = [entrant for entrant, _ in race(left, task.draft, train, size, keep=BEST)]
    stocks = best + [entrant for entrant in left if entrant not in best]
    # As many of every first level, for a free step is behind at first, and ahead in the end.
    each = math.ceil(task.settings.starts / (1 + len(FREE)))
    starts = race_each(_families(task, stocks, variance), _first_level, task.draft, few, size, each)
    plain = [entrant for entrant, _ in starts if not family_of(entrant).free]
    free = [entrant for entrant, _ in starts if family_of(entrant).free]
    state.stock = [entrant.name for entrant in stocks]
    state.starts = [entrant.name for entrant in (*plain, *free)][: task.settings.starts]


def _families(task: Task, stocks: list[Entrant], variance: float) -> list[Entrant]:
    ratios = FREE if "free" in task.settings.groups else ()
    return [
        family
        for entrant in stocks
        for family in freed(entrant, task.sde, task.nfe, variance, task.settings.window, ratios)
    ]


def _by_name(names: Sequence[str], entrants: Sequence[Entrant]) -> list[Entrant]:
    return [entrant for name in names for entrant in entrants if entrant.name == name]


def _spacing(entrant: Entrant) -> str:
    return entrant.spacing


def _first_level(entrant: Entrant) -> float:
    return round(family_of(entrant).lams[0], 6)
