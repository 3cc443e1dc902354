"""From a network and a budget of calls to a tuned plan, and a report of its errors."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Watched, as_denoiser
from ..integer import integer
from ..plans.plan import Plan
from ..spacings.measured import Measured
from .candidates import family_of, named, stock_candidates, stock_spacings
from .held_out import compare_held_out
from .pairs import FeatureMap
from .progress import Progress, expected_evaluations
from .report import Report
from .rounds import fit_candidates
from .saved import StateFolder, TuningState
from .screening import all_tunable, data_deviation, prepare_teacher, screen
from .settings import Settings, check_budget
from .task import SCREEN_SAMPLES, Task, check_network, variance_of

__all__ = ["check_budget", "tune"]


@torch.no_grad()
def tune(
    denoiser: DenoiserLike,
    nfe: int,
    shape: Sequence[int],
    *,
    cond: Condition = None,
    seed: int = 0,
    settings: Settings | None = None,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    draft: DenoiserLike | None = None,
    feature_map: FeatureMap | None = None,
    levels: Measured | None = None,
    state: str | Path | None = None,
    progress: bool = False,
) -> tuple[Plan, Report]:
    """Fit a table of ``nfe`` network calls to a network, and compare it with the best stock solver.

    1. A teacher with many calls gives the ends of noise samples
       (:func:`scoresde.tuning.teacher.converged_teacher`).
    2. All stock solvers on all stock spacings are compared by successive halving; the best, each with several
       analytical first steps, are the tables that the fit starts from.
    3. Levenberg-Marquardt fits levels and weights (:class:`scoresde.tuning.family.Family`,
       :class:`scoresde.tuning.levenberg_marquardt.LevenbergMarquardt`), without backpropagation.
    4. On held-out noise samples, which no earlier part used, the result is compared with the best stock
       solver. The tuned plan is returned if it is better there with 95 % confidence; otherwise the stock
       solver's plan.

    A test on n samples cannot exclude a miss in up to 3 / n of all samples; the report states what it would
    cost. Related methods: BNS (Shaul et al. 2024, arXiv 2403.01329), S4S (arXiv 2502.17423), LD3 (arXiv
    2405.15506).

    Args:
        denoiser: the network to sample from, in eval mode.
        nfe: network calls, at least 2.
        shape: of one sample.
        cond: conditions ``(K, ...)``, in the proportions that are to be sampled; noise sample i has condition
            i mod K.
        seed: of the noise.
        settings: default, :class:`Settings`.
        batch_size: samples in one network call.
        device: of the state.
        draft: the same network at a lower cost, for example in low precision, for comparing stock solvers.
            The teacher, the fit and the report use ``denoiser``: rounding would hide the small differences
            that the fit is made of.
        feature_map: maps samples ``(B, ...)`` to features ``(B, ...)``; the fit and the decision then measure
            errors in features. Default, in the samples. Do not use features that later measure the result.
        levels: levels measured on the network, one spacing more on which the stock solvers are compared.
        state: a folder. It is written after every iteration, and a tuning resumes from it; a teacher in it
            serves other budgets too.
        progress: show a progress bar of network evaluations.

    Returns:
        The plan, and the report of its errors.

    Raises:
        TypeError: ``nfe`` is not an integer.
        ValueError: a budget of less than 2 calls, or of more than 256; fewer samples than parameters; a
            network in training mode, or one that is not deterministic; levels measured on another process;
            a teacher that does not converge; a state that is damaged, or of another tuning.
        FloatingPointError: the output of the network is not finite, or no stock solver has finite ends.
    """
    settings = settings or Settings()
    check_budget(nfe, settings)
    if levels is not None:
        levels.check(as_denoiser(denoiser).sde)
    with tqdm(unit="evaluation", disable=not progress, smoothing=0.1) as bar:
        shown = Progress(bar)
        watched = Watched(as_denoiser(denoiser), shown.observe)
        task = Task(
            denoiser=watched,
            draft=watched if draft is None else Watched(as_denoiser(draft), shown.observe),
            feature_map=feature_map,
            levels=levels,
            nfe=integer("nfe", nfe),
            shape=tuple(shape),
            cond=cond,
            seed=seed,
            settings=settings,
            batch_size=batch_size,
            device=torch.device(device),
            progress=shown,
        )
        made = _run(task, StateFolder(None if state is None else Path(state), task))
        shown.end()
        return made


def _run(task: Task, folder: StateFolder) -> tuple[Plan, Report]:
    """The phases of a tuning, each of which resumes from the saved state."""
    begun, progress = time.perf_counter(), task.progress
    pairs = task.initial_pairs()
    few = pairs[:SCREEN_SAMPLES]
    check_network(task.denoiser, few.x, few.cond)
    spacings = stock_spacings(task.settings.spacings, data_deviation(task, pairs), task.levels)
    candidates = stock_candidates(task.sde, task.nfe, task.solvers, spacings)
    if not candidates:
        names = ", ".join(task.solvers)
        raise ValueError(f"none of {names} makes a deterministic plan of {task.nfe} calls on these spacings")
    progress.expect(expected_evaluations(task.nfe, task.settings, len(candidates)))
    old = folder.state()
    calls, seconds = (old.calls, old.seconds) if old else (0, 0.0)

    def save(state: TuningState) -> None:
        state.calls = calls + progress.evaluations
        state.seconds = seconds + time.perf_counter() - begun
        folder.save(state)

    targets, state = prepare_teacher(task, candidates, pairs, folder, old, save)
    parts = task.parts(replace(pairs, target=targets.target.to(task.device)))
    variance = variance_of(parts[0].target)
    if not state.starts:
        progress.begin("screening")
        screen(task, candidates, parts[0], state, variance)
        save(state)
    stocks = named(state.stock, candidates)
    starts = named(state.starts, all_tunable(task, stocks, variance))
    progress.begin("fit")
    start, reached = fit_candidates(task, starts, parts, state, partial(save, state))
    progress.begin("held-out samples")
    tuned = family_of(start).table(np.array(reached.best))
    plan, report = compare_held_out(task, start, tuned, reached, stocks, parts[2], state)
    save(state)
    return plan, replace(report, calls=state.calls, seconds=state.seconds)
