"""The fit of several candidates in rounds: each has more noise samples and fewer candidates."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .bands import Bands
from .candidates import Candidate, family_of
from .derivatives import difference_step
from .fit import Fit
from .levenberg_marquardt import LevenbergMarquardt, LMState, ModelCache
from .objective import Objective
from .pairs import Pairs
from .saved import TuningState
from .task import SCREEN_SAMPLES, Parts, Task

N_PARTS = 4  # of the training pairs; an iteration takes derivatives on one of them
SHORT_ROUNDS = (1, 2)  # the numbers of parts that the first rounds fit on; the better half goes on
SHORT_ITERATIONS = 4  # of each of these rounds


def fit_candidates(
    task: Task, candidates: list[Candidate], parts: Parts, state: TuningState, save: Callable[[], None]
) -> tuple[Candidate, LMState]:
    """The candidate with the lowest objective after all rounds, and the state of its optimization.

    1. Short rounds: all candidates take a few iterations on one part of the training pairs; the better half
       takes a few more on two parts.
    2. Long rounds: the finalists go on, on all training pairs.

    After each round, candidates far behind the best one are dropped (``Settings.drop_above``).
    """
    settings = task.settings
    rounds, finalists = FitRounds.of(task, candidates, parts, state, save), settings.finalists
    reached = rounds.reached
    for number in range(len(rounds.sizes)):
        if len(state.rounds) == number:
            state.rounds.append({})
        if number >= len(SHORT_ROUNDS):
            candidates = candidates[:finalists]
        elif number and len(candidates) <= finalists:
            continue  # this round would drop no candidate
        for candidate in candidates:
            reached[candidate.name] = rounds.run(candidate, number)
        ranked = sorted(candidates, key=lambda one: reached[one.name].best_objective)
        ranked = ranked[: max(finalists, -(-len(candidates) // 2))]
        bound = settings.drop_above * reached[ranked[0].name].best_objective
        candidates = [one for one in ranked if reached[one.name].best_objective <= bound]
    return candidates[0], reached[candidates[0].name]


@dataclass(frozen=True, eq=False)
class FitRounds:
    """The rounds of a fit, and how far each candidate came.

    Args:
        task: the network and the settings.
        train: all training pairs.
        valid: all validation pairs.
        bands: of the objective, if it has any.
        step: the step of differences.
        scale: of the objective.
        sizes: the number of training pairs and the maximum number of iterations of each round.
        part: the number of pairs of one part.
        state: receives the state of each optimization.
        save: called after each iteration.
        reached: by candidate, the state after its last round.
        caches: by candidate, the local models.
    """

    task: Task
    train: Pairs
    valid: Pairs
    bands: Bands | None
    step: float
    scale: float
    sizes: list[tuple[int, int]]
    part: int
    state: TuningState
    save: Callable[[], None]
    reached: dict[str, LMState] = field(default_factory=dict)
    caches: dict[str, ModelCache] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        candidates: list[Candidate],
        parts: Parts,
        state: TuningState,
        save: Callable[[], None],
    ) -> "FitRounds":
        """The rounds of a task. The scale is the mean square error of the best initial table."""
        settings, (train, valid, _) = task.settings, parts
        part = max(SCREEN_SAMPLES, -(-len(train) // N_PARTS))
        sizes = [(many * part, min(SHORT_ITERATIONS, settings.iterations)) for many in SHORT_ROUNDS]
        sizes += [(len(train), settings.iterations)] * (1 if settings.robust else 2)
        bands = Bands.of(train.target, settings.bands) if settings.bands else None
        step = _difference_step(task, train[:SCREEN_SAMPLES])
        rounds = cls(task, train, valid, bands, step, 1.0, sizes, part, state, save)
        errors = (
            rounds.fit(one).mean_squared_error(np.zeros(family_of(one).size), train) for one in candidates
        )
        return replace(rounds, scale=min(errors))

    def fit(self, candidate: Candidate, robust: bool = True) -> Fit:
        """A candidate's family with the objective."""
        task = self.task
        objective = Objective(self.scale, self.bands, task.settings.gamma, robust=robust)
        return Fit(
            family_of(candidate), task.denoiser, objective, task.batch_size, self.step, task.feature_map
        )

    def run(self, candidate: Candidate, number: int) -> LMState:
        """Optimize a candidate to the end of a round, from its saved state if there is one."""
        name, settings = candidate.name, self.task.settings
        family, previous = family_of(candidate), self.reached.get(name)
        cache = self.caches.setdefault(name, {})
        robust = settings.robust or number < len(self.sizes) - 1
        if previous and not robust:  # the local models are of another objective
            previous = replace(previous, linearized_at=())
            cache.clear()
        size, iterations = self.sizes[number]
        active = family.indices(settings.groups)
        optimizer = LevenbergMarquardt(
            self.fit(candidate, robust), self.train[:size], self.valid, active, self.part
        )
        states, first = self.state.rounds[number], len(previous.history) if previous else 0
        if name not in states:
            theta = np.array(previous.best) if previous else np.zeros(family.size)
            states[name] = optimizer.start(theta, previous)
        while not states[name].done and (done := len(states[name].history) - first) <= iterations:
            objective = states[name].best_objective
            self.task.progress.describe(f"round {number + 1}, {name}, {done}: {objective:.4f}")
            states[name] = optimizer.iterate(states[name], cache)
            self.save()
        return states[name]


def _difference_step(task: Task, pairs: Pairs) -> float:
    """The difference step that suits the network in the middle of a run."""
    begin, level = task.sde.level_at(task.sde.t_max), task.sde.level_of(0.0)
    x = level.alpha * pairs.target + level.sigma / begin.sigma * pairs.x
    return difference_step(task.denoiser, x, level, pairs.cond)
