"""The rounds of a fit: who goes on, on how many samples, with which objective."""

import json
import math

import numpy as np
import pytest
from small_tuning import task, tuned

from scoresde.tuning.candidates import stock_candidates, stock_spacings
from scoresde.tuning.levenberg_marquardt import LMState
from scoresde.tuning.rounds import FitRounds, fit_candidates
from scoresde.tuning.saved import TuningState
from scoresde.tuning.screening import all_tunable
from scoresde.tuning.teacher import TeacherCheck, teacher_pairs


def saved(folder):
    return json.loads((folder / "state-3.json").read_text())


def best(states):
    """The names of a round, lowest objective first."""
    return sorted(states, key=lambda name: states[name]["best_objective"])


def small_fit(**settings):
    """A task, its candidates, and the parts of its pairs."""
    of = task(**settings)
    noises = of.initial_pairs()
    parts = of.parts(teacher_pairs(of.denoiser, noises.x, None, 32, 256))
    stocks = stock_candidates(of.sde, of.nfe, of.solvers, stock_spacings(of.settings.spacings))
    return of, all_tunable(of, stocks, 0.5)[:2], parts


def empty():
    return TuningState(TeacherCheck(32, 0.001, 0.01), [], [], [])


def test_the_starts_have_first_steps_to_several_levels(tmp_path):
    tuned(state=tmp_path, iterations=1)
    starts = saved(tmp_path)["starts"]
    assert [", analytical first step to" in start for start in starts] == [False, True, True, True]
    assert len({start.partition(", ")[2] for start in starts}) == 4


@pytest.mark.parametrize(("drop_above", "second"), [(1.0, 0), (math.inf, 2)])
def test_a_candidate_that_is_far_behind_does_not_go_on(drop_above, second, tmp_path):
    """And one that is alone goes to the last round at once."""
    tuned(state=tmp_path, iterations=1, drop_above=drop_above)
    rounds = saved(tmp_path)["rounds"]
    assert [len(states) for states in rounds] == [4, second, 1]
    assert set(rounds[1]) == set(best(rounds[0])[:second])
    assert set(rounds[2]) <= set(best(rounds[0])[: second or 1])


def test_as_many_finalists_as_asked_for_go_on_to_the_end(tmp_path):
    tuned(state=tmp_path, iterations=1, finalists=3, robust=False, drop_above=math.inf)
    rounds = saved(tmp_path)["rounds"]
    assert [len(states) for states in rounds] == [4, 0, 3, 3]  # the second round would drop no candidate
    assert set(rounds[3]) == set(best(rounds[0])[:3])


@pytest.mark.parametrize("robust", [True, False])
def test_rounds_have_more_and_more_samples_and_only_the_last_may_be_plain_least_squares(robust):
    """Each starts from the best parameters of the one before; its first objective shows which it is."""
    of, candidates, parts = small_fit(samples=256, robust=robust, iterations=1, finalists=2)
    state = empty()
    _, reached = fit_candidates(of, candidates, parts, state, lambda: None)
    assert reached in state.rounds[-1].values()
    assert state.rounds.pop(1) == {}  # two finalists of two: the round would drop no candidate
    expected = [(64, True), (256, True)] + [(256, False)] * (not robust)
    rounds = FitRounds.of(of, candidates, parts, state, lambda: None)
    for candidate in candidates:
        theta, start = np.zeros(candidate.family.size), 0
        for states, (samples, is_robust) in zip(state.rounds, expected, strict=True):
            fit, found = rounds.fit(candidate, is_robust), states[candidate.name]
            values = (fit.value(theta, part) for part in (parts[0][:samples], parts[1]))
            assert found.history[start] == tuple(values)
            theta, start = np.array(found.best), len(found.history)


@pytest.mark.parametrize("robust", [True, False])
def test_where_parts_were_linearized_is_forgotten_when_the_objective_changes(robust):
    """A local model of the robust objective says nothing of the plain one."""
    of, candidates, parts = small_fit(samples=256, robust=robust, iterations=0, starts=1)
    (candidate,) = candidates = candidates[:1]
    theta = (0.0,) * candidate.family.size
    before = LMState(theta, 1.0, theta, 1.0, linearized_at=(theta, theta), history=((1.0, 1.0),))
    state = empty()
    state.rounds = [{candidate.name: before}]
    _, reached = fit_candidates(of, candidates, parts, state, lambda: None)
    assert state.rounds[2][candidate.name].linearized_at == (theta, theta)
    assert reached.linearized_at == ((theta, theta) if robust else ())
    assert len(reached.history) == (2 if robust else 3)
