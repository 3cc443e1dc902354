"""Where the noise levels of a run lie."""

import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, VESDE, VPSDE, Plan, RectifiedFlow, UniformLambda, UniformTime, prepare
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM
from scoresde.spacings import SPACINGS, AtTimes, Grid, Spacing
from tests.problems import SDES, floats, sdes

# By name, from end to end of any SDE.
MADE: dict[str, Spacing] = {
    name: maker()
    for name, maker in SPACINGS.items()
    if not name.startswith(("at-", "align-your-steps", "joined", "under", "measured"))
}


@given(sdes, st.sampled_from(list(MADE)), st.integers(1, 60), st.booleans())
def test_a_grid_falls_from_one_end_of_the_sde_to_the_other(
    sde: SDE, name: str, steps: int, to_clean: bool
) -> None:
    steps += to_clean
    grid = Grid.build(sde, steps, MADE[name], to_clean=to_clean)
    times = [level.t for level in grid.levels]
    lams = [level.lam for level in grid.levels]
    assert len(times) == steps + 1
    assert all(t > s for t, s in pairwise(times[: steps + 1 - to_clean]))  # VE's t = 0 is not yet clean
    assert all(t < s for t, s in pairwise(lams))
    assert (times[0], times[-1 - to_clean]) == (sde.t_max, sde.t_min)  # to the last bit


@pytest.mark.parametrize("name", SDES)
def test_levels_are_the_levels_of_the_sde_at_the_times(name: str) -> None:
    grid = Grid.build(SDES[name], 7, UniformTime())
    for level in grid.levels:
        t = torch.tensor(level.t, dtype=torch.float64)
        for got, expected in zip(level, SDES[name].level(t), strict=True):
            assert got == pytest.approx(
                expected.item(), rel=1e-14
            )  # the same function, of one number or many


@pytest.mark.parametrize("name", SDES)
def test_to_clean_adds_a_step_to_sigma_0(name: str) -> None:
    with_clean = Grid.build(SDES[name], 7, UniformLambda(), to_clean=True)
    without = Grid.build(SDES[name], 6, UniformLambda())
    assert with_clean.levels == (*without.levels, CLEAN)
    assert tuple(CLEAN) == (0.0, 1.0, 0.0, math.inf)
    assert len(with_clean.rates) == 7
    assert all(math.isfinite(number) for rate in with_clean.rates for number in rate)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Grid.build(VPSDE(), 0, UniformTime()), "at least 1 steps, got 0"),
        (lambda: Grid.build(VPSDE(), 1, UniformTime(), to_clean=True), "at least 2 steps, got 1"),
        (lambda: Grid.build(VPSDE(), 2, AtTimes([0.9, 0.5, 0.5])), "must strictly fall, got 0.5 before 0.5"),
        (lambda: Grid.build(VPSDE(), 2, AtTimes([0.2, 0.5, 0.1])), "must strictly fall, got 0.2 before 0.5"),
        (lambda: Grid.build(VPSDE(), 1, AtTimes([math.nan, 0.5])), "must strictly fall, got nan before 0.5"),
        (lambda: Grid.build(VPSDE(), 1, AtTimes([0.5, math.nan])), "must strictly fall, got 0.5 before nan"),
        (lambda: Grid.build(VPSDE(), 2, AtTimes([1.5, 0.5, 0.1])), "in [0.001, 1.0], got 1.5"),
        (lambda: Grid.build(VPSDE(), 2, AtTimes([0.9, 0.5, 0.0])), "in [0.001, 1.0], got 0.0"),
        (lambda: Grid.build(VPSDE(), 1, AtTimes([math.inf, 0.5])), "in [0.001, 1.0], got inf"),
        (lambda: Grid.build(VPSDE(), 5, AtTimes([0.9, 0.1])), "listed levels make 1 steps, not 5"),
        (lambda: Grid.build(VPSDE(), 3, lambda sde, n: UniformTime()(sde, n).flip(0)), "must strictly fall"),
    ],
)
def test_times_that_make_no_grid_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("name", SDES)
def test_rates_are_the_drift_and_diffusion_where_a_step_begins(name: str) -> None:
    sde = SDES[name]
    grid = Grid.build(sde, 9, UniformLambda())
    for (f, g2), level in zip(grid.rates, grid.levels, strict=False):
        t = torch.tensor(level.t, dtype=torch.float64)
        assert (f, g2) == pytest.approx(
            (sde.drift(t).item(), sde.diffusion2(t).item()), rel=1e-13
        )  # as above


def test_each_step_alone_is_the_same_step() -> None:
    grid = Grid.build(VESDE(), 6, UniformLambda())
    alone = list(grid.singly())
    assert [step.levels for step in alone] == list(grid.steps())
    assert [step.rates for step in alone] == [(rate,) for rate in grid.rates]


@given(sdes, floats(0, 1))
def test_between_is_a_fraction_of_the_way_in_lambda(sde: SDE, r: float) -> None:
    grid = Grid.build(sde, 5, UniformLambda())
    for (t, s), middle in zip(grid.steps(), grid.between(r), strict=True):
        assert middle.lam == pytest.approx(t.lam + r * (s.lam - t.lam), abs=1e-7)  # digits of 1 - t, as above
        assert middle.alpha / middle.sigma == pytest.approx(math.exp(middle.lam), rel=1e-12)  # roundings


def test_a_grid_from_alpha_0_and_to_clean_has_finite_steps_for_ddim() -> None:
    plan = Plan.make(DDIM(), RectifiedFlow(), 3, to_clean=True)
    assert (plan.start.lam, plan.end.lam) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "times",
    [[80.0, 1.0, 0.002], (80, 1, 0.002), torch.tensor([80.0, 1.0, 0.002], dtype=torch.float64).numpy()],
)
def test_times_may_be_any_row_of_numbers(times):
    grid = Grid.build(EDM(), 2, lambda sde, n: times)
    assert [level.t for level in grid.levels] == [80.0, 1.0, 0.002]


@pytest.mark.parametrize("made", [None, "karras", [80.0], torch.ones(2, 2), [["x"]]])
def test_a_spacing_that_makes_no_times_is_named(made):
    with pytest.raises(TypeError, match="spacing must return the times") as caught:
        Grid.build(EDM(), 2, lambda sde, n: made)
    assert "\n" not in str(caught.value)


def test_times_in_place_of_a_spacing_are_refused():
    with pytest.raises(TypeError, match="spacing must be a spacing, a function"):
        prepare("ddim", EDM(), 4, torch.linspace(80, 0.002, 5))


@pytest.mark.parametrize("solver", ["dpmpp-2m", "parallel", "ode", "ode:method=rk4", "torchsde"])
def test_a_budget_beyond_all_tables_is_refused_at_once(solver):
    with pytest.raises(ValueError, match=r"at most 200,000.* got 1,000,000,000"):
        prepare(solver, EDM(), 10**9)


def test_listed_levels_need_no_more_than_they_are():
    assert prepare("ddim", EDM(), 10**9, AtTimes([80.0, 1.0, 0.002])).nfe == 2
