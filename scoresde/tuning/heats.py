"""The fit of several starts, of which the better ones go on, heat by heat."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from .derivatives import step_for
from .descent import Descending, Descent, Known
from .family import Family
from .fit import Fit
from .kept import State
from .objective import Bands, Objective
from .pairs import Pairs
from .race import Entrant
from .task import FEW, Parts, Task

PARTS = 4  # of the training noises, of one of which derivatives are taken in an iteration
HEATS = (1, 2)  # of these parts starts are fitted to; the better half goes on
TRIED = 4  # iterations of a heat
BEHIND = 2.0  # times the best start's objective: who is further behind does not go on


def fitted(
    task: Task, starts: list[Entrant], parts: Parts, state: State, save: Callable[[], None]
) -> tuple[Entrant, Descent]:
    """The start that the fit came furthest from, and its descent.

    All starts take a few steps on a few noises, the better half of them a few on more, and so on; the
    finalists, or those that are not far behind, go on, on all.
    """
    contest, finalists = Contest.of(task, starts, parts, state, save), task.settings.finalists
    reached = contest.reached
    for heat in range(len(contest.heats)):
        if len(state.heats) == heat:
            state.heats.append({})
        if heat >= len(HEATS):
            starts = starts[:finalists]
        elif heat and len(starts) <= finalists:
            continue  # no entrant would leave
        for start in starts:
            reached[start.name] = contest.go_on(start, heat)
        ranked = sorted(starts, key=lambda one: reached[one.name].least)
        ranked = ranked[: max(finalists, -(-len(starts) // 2))]
        starts = [one for one in ranked if reached[one.name].least <= BEHIND * reached[ranked[0].name].least]
    return starts[0], reached[starts[0].name]


@dataclass(frozen=True, eq=False)
class Contest:
    """What all starts are fitted to, and how far each came.

    ``scale`` is of the objective, ``step`` of differences; ``heats`` lists the noises and the iterations of
    each; ``known`` is what parts said, of each start.
    """

    task: Task
    train: Pairs
    valid: Pairs
    bands: Bands | None
    step: float
    scale: float
    heats: list[tuple[int, int]]
    part: int
    state: State
    save: Callable[[], None]
    reached: dict[str, Descent] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)

    @classmethod
    def of(
        cls, task: Task, starts: list[Entrant], parts: Parts, state: State, save: Callable[[], None]
    ) -> "Contest":
        """Of a task: the scale is what the best start misses by."""
        settings, (train, valid, _) = task.settings, parts
        part = max(FEW, -(-len(train) // PARTS))
        heats = [(many * part, min(TRIED, settings.iterations)) for many in HEATS]
        heats += [(len(train), settings.iterations)] * (1 if settings.robust else 2)
        bands = Bands.of(train.target, settings.bands) if settings.bands else None
        contest = cls(task, train, valid, bands, _step(task, train[:FEW]), 1.0, heats, part, state, save)
        errors = (contest.fit(one).error(np.zeros(family_of(one).size), train) for one in starts)
        return replace(contest, scale=min(errors))

    def fit(self, start: Entrant, robust: bool = True) -> Fit:
        """Of a start's family, to the objective."""
        task = self.task
        objective = Objective(self.scale, self.bands, task.settings.gamma, robust=robust)
        return Fit(family_of(start), task.denoiser, objective, task.batch_size, self.step, task.perceive)

    def go_on(self, start: Entrant, heat: int) -> Descent:
        """The start's descent to the end of a heat, from where it was kept."""
        name, settings = start.name, self.task.settings
        family, before = family_of(start), self.reached.get(name)
        known = self.known.setdefault(name, {})
        robust = settings.robust or heat < len(self.heats) - 1
        if before and not robust:  # what parts said was of another objective
            before = replace(before, looked=())
            known.clear()
        noises, iterations = self.heats[heat]
        active = family.places(settings.groups)
        descending = Descending(self.fit(start, robust), self.train[:noises], self.valid, active, self.part)
        kept, first = self.state.heats[heat], len(before.history) if before else 0
        if name not in kept:
            theta = np.array(before.best) if before else np.zeros(family.size)
            kept[name] = descending.begin(theta, before)
        while not kept[name].done and len(kept[name].history) - first <= iterations:
            done = len(kept[name].history) - first
            self.task.denoiser.bar.says(f"heat {heat + 1}, {name}, {done}: {kept[name].least:.4f}")
            kept[name] = descending.improve(kept[name], known)
            self.save()
        return kept[name]


def family_of(entrant: Entrant) -> Family:
    """The family of an entrant that can be tuned."""
    assert entrant.family is not None
    return entrant.family


def _step(task: Task, pairs: Pairs) -> float:
    """Of differences, as it suits the network in the middle of a run."""
    begin, level = task.sde.level_at(task.sde.t_max), task.sde.level_of(0.0)
    x = level.alpha * pairs.target + level.sigma / begin.sigma * pairs.x
    return step_for(task.denoiser, x, level, pairs.cond)
