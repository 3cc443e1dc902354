"""The longest run within a budget of network calls."""

import pytest
import torch

from scoresde import EDM, SDE, VPSDE, Plan, Tape, UniformLambda
from scoresde.plans import Vector
from scoresde.plans.tape import Solver
from scoresde.solvers import DDIM, AnalyticalFirstStep, DPMSolver, Heun, PredictorCorrector, Restart
from scoresde.solvers.moves import ddim
from scoresde.spacings import Grid, Spacing
from tests.problems import TABLES


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_plan_uses_all_of_its_budget_and_no_more(name: str, to_clean: bool) -> None:
    """For every budget, of all runs the longest that fits; too small ones raise, naming the least."""
    solver, sde = TABLES[name], VPSDE()
    runs = [Plan.make(solver, sde, steps, to_clean=to_clean) for steps in range(1 + to_clean, 63)]
    for nfe in (*range(1, 13), 37, 60) if to_clean else range(1, 61):
        fitting = [run for run in runs if run.nfe <= nfe]
        if fitting:
            assert Plan.within(nfe, solver, sde, to_clean=to_clean) == max(fitting, key=lambda run: run.nfe)
        else:
            with pytest.raises(ValueError, match=rf"nfe must be at least {runs[0].nfe} .*got {nfe}"):
                Plan.within(nfe, solver, sde, to_clean=to_clean)


@pytest.mark.parametrize("to_clean", [False, True])
def test_a_free_step_leaves_its_call_to_another(to_clean: bool) -> None:
    for nfe in (2, 3, 5, 10, 37):
        for solver in (
            AnalyticalFirstStep(),
            AnalyticalFirstStep(DDIM()),
            Restart(AnalyticalFirstStep(), ((0.06, 0.3, 4, 2),)),
        ):
            if nfe > 9 or isinstance(solver, AnalyticalFirstStep):
                assert Plan.within(nfe, solver, EDM(), to_clean=to_clean).nfe == nfe, (nfe, solver)


def at_most(most: int, refused: list[int]) -> Spacing:
    """Even steps in lambda, of which there are no more than so many."""

    def spacing(sde: SDE, n: int) -> torch.Tensor:
        if n > most:
            refused.append(n)
            raise ValueError(f"n must be at most {most}, got {n}")
        return UniformLambda()(sde, n)

    return spacing


def test_a_spacing_of_few_steps_fills_a_budget_that_it_can_fill() -> None:
    """Whatever longer runs are tried on the way."""
    for most in (49, 50, 55, 60, 65, 70, 200):
        plan = Plan.within(100, Heun(), EDM(), at_most(most, []), to_clean=True)
        assert plan.nfe == 99, most  # 49 steps of two calls, and one to sigma = 0
    for nfe, most, solver in (
        (60, 60, DDIM()),
        (59, 60, AnalyticalFirstStep(DDIM())),
        (17, 9, Heun()),
        (18, 9, Heun()),
    ):
        assert nfe - 1 <= Plan.within(nfe, solver, VPSDE(), at_most(most, [])).nfe <= nfe


@pytest.mark.parametrize("solver", [DDIM(), Heun(), DPMSolver(3), AnalyticalFirstStep()])
def test_a_spacing_of_too_few_steps_for_a_budget_says_so(solver: Solver) -> None:
    refused: list[int] = []
    with pytest.raises(ValueError, match="n must be at most 20, got") as raised:
        Plan.within(100, solver, EDM(), at_most(20, refused))
    assert f"got {refused[0]}" in str(raised.value)  # the run that was wanted
    assert len(refused) < 8  # it is not looked for step by step


class Silent:
    """A solver that asks the network nothing, and writes nothing or a state."""

    order = 1

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return tape.state(x / 2) if self.keeps else x


@pytest.mark.parametrize("keeps", [False, True])
def test_a_solver_that_asks_nothing_is_refused(keeps: bool) -> None:
    with pytest.raises(ValueError, match=r"Silent.* calls no network in a run of 3 steps"):
        Plan.make(Silent(keeps), EDM(), 3)
    with pytest.raises(ValueError, match="calls no network"):
        Plan.within(9, Silent(keeps), EDM())


class Once:
    """A solver that asks once, however many steps there are."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return tape.state(ddim(grid.levels[0], grid.levels[-1], x, tape.denoise(x, grid.levels[0])))


def test_a_budget_that_a_solver_cannot_use_is_not_looked_for_for_ever() -> None:
    assert Plan.within(1000, Once(), EDM()).nfe == 1


@pytest.mark.parametrize("corrections", [0, 1, 3])
def test_corrections_follow_every_step_but_one_to_clean(corrections: int) -> None:
    solver = PredictorCorrector(corrections=corrections)
    assert Plan.make(solver, VPSDE(), 5).nfe == 5 * (1 + corrections)
    assert Plan.make(solver, VPSDE(), 5, to_clean=True).nfe == 5 + 4 * corrections
