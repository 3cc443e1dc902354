"""Where the noise levels of a run lie."""

import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import (
    CLEAN,
    EDM,
    SDE,
    VESDE,
    VPSDE,
    Grid,
    Plan,
    RectifiedFlow,
    default_spacing,
    karras,
    listed,
    prepare,
    quadratic_time,
    uniform_lam,
    uniform_time,
)
from scoresde.grid import SPACINGS, Spacing
from scoresde.registry import make
from scoresde.solvers import DDIM
from tests.problems import SDES, TABLES, floats, sdes

MADE: dict[str, Spacing] = {name: maker() for name, maker in SPACINGS.items() if name != "listed"}


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
    # The rounding of an inverse: the slack that Grid.build allows itself.
    assert times[0] == pytest.approx(sde.t_max, abs=1e-9 * (sde.t_max - sde.t_min))
    assert times[-1 - to_clean] == pytest.approx(sde.t_min, abs=1e-9 * (sde.t_max - sde.t_min))


@given(sdes, st.integers(1, 60))
def test_uniform_time_takes_equal_steps_of_t(sde: SDE, n: int) -> None:
    i = torch.arange(n + 1, dtype=torch.float64)
    expected = sde.t_max + i / n * (sde.t_min - sde.t_max)
    torch.testing.assert_close(
        uniform_time(sde, n), expected, rtol=1e-13, atol=1e-13 * sde.t_max
    )  # roundings


@given(sdes, st.integers(1, 60))
def test_quadratic_time_takes_equal_steps_of_the_root_of_t(sde: SDE, n: int) -> None:
    i = torch.arange(n + 1, dtype=torch.float64)
    first, last = math.sqrt(sde.t_max), math.sqrt(sde.t_min)
    expected = (first + i / n * (last - first)) ** 2
    torch.testing.assert_close(
        quadratic_time(sde, n), expected, rtol=1e-12, atol=1e-12 * sde.t_max
    )  # roundings


@given(sdes, st.integers(2, 60))
def test_uniform_lam_takes_equal_steps_of_the_half_log_snr(sde: SDE, n: int) -> None:
    steps = sde.lam(uniform_lam(sde, n)).diff()
    # lam is recovered from t; near t = 1 alpha = cos(pi t / 2) loses digits to 1 - t, down to 1e-4 of t here.
    torch.testing.assert_close(steps, steps.mean().expand(n), rtol=1e-7, atol=1e-9)


@given(st.integers(2, 60), floats(1, 12))
def test_karras_is_equation_5_of_its_paper(n: int, rho: float) -> None:
    """As k-diffusion writes it, get_sigmas_karras, on the process whose time is sigma itself."""
    sde = EDM()
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    low, high = sde.t_min ** (1 / rho), sde.t_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    # exp and log of numbers to the power of 12, between.
    torch.testing.assert_close(karras(rho)(sde, n - 1), sigmas, rtol=1e-11, atol=0)


@given(sdes, st.integers(1, 60), floats(1, 12))
def test_karras_takes_equal_steps_of_a_root_of_sigma_over_alpha(sde: SDE, n: int, rho: float) -> None:
    roots = torch.exp(-sde.lam(karras(rho)(sde, n)) / rho)
    ramp = torch.linspace(roots[0].item(), roots[-1].item(), n + 1, dtype=torch.float64)
    torch.testing.assert_close(roots, ramp, rtol=1e-7, atol=0)  # digits of 1 - t, as above


def test_the_default_is_uniform_in_lambda_where_that_has_a_beginning() -> None:
    assert default_spacing(VPSDE()) is uniform_lam
    assert default_spacing(RectifiedFlow(t_max=0.99)) is uniform_lam
    assert default_spacing(RectifiedFlow()) is uniform_time


@pytest.mark.parametrize("spacing", [uniform_lam, karras()])
def test_no_half_log_snr_no_spacing_in_it(spacing: Spacing) -> None:
    with pytest.raises(ValueError, match=r"no half log-SNR at t_max, where alpha = 0.*uniform-t"):
        Grid.build(RectifiedFlow(), 5, spacing)


@pytest.mark.parametrize("name", SDES)
def test_levels_are_those_of_the_sde_at_the_times(name: str) -> None:
    grid = Grid.build(SDES[name], 7, uniform_time)
    for level in grid.levels:
        t = torch.tensor(level.t, dtype=torch.float64)
        for got, expected in zip(level, SDES[name].level(t), strict=True):
            assert got == pytest.approx(
                expected.item(), rel=1e-14
            )  # the same function, of one number or many


@pytest.mark.parametrize("name", SDES)
def test_to_clean_adds_a_step_to_sigma_0(name: str) -> None:
    with_clean = Grid.build(SDES[name], 7, uniform_lam, to_clean=True)
    without = Grid.build(SDES[name], 6, uniform_lam)
    assert with_clean.levels == (*without.levels, CLEAN)
    assert tuple(CLEAN) == (0.0, 1.0, 0.0, math.inf)
    assert len(with_clean.rates) == 7
    assert all(math.isfinite(number) for rate in with_clean.rates for number in rate)


def test_listed_times_are_used_exactly() -> None:
    times = [0.93, 0.7000000000000001, 0.3, 0.02]
    for grid in (Grid.build(VPSDE(), 3, listed(times)), Grid.build(VPSDE(), 4, listed(times), to_clean=True)):
        assert [level.t for level in grid.levels[:4]] == times
    times[0] = 0.5  # a spacing is what it was made of
    assert listed([0.9, 0.1]) == listed((0.9, 0.1)) != listed([0.9, 0.2])


@pytest.mark.parametrize("name", TABLES)
def test_listed_times_are_one_run_whatever_the_budget(name: str) -> None:
    times = [0.9, 0.7, 0.3, 0.02]
    need = Plan.make(TABLES[name], VPSDE(), 3, listed(times)).nfe
    for nfe in (need, need + 1, 50):
        plan = prepare(name, VPSDE(), nfe, listed(times))
        assert isinstance(plan, Plan)
        assert plan.nfe == need
        assert (plan.start.t, plan.end.t) == (0.9, 0.02)
        assert set(times[:3]) <= {level.t for level in plan.levels}
    with pytest.raises(ValueError, match=f"nfe must be at least {need} .*got {need - 1}"):
        prepare(name, VPSDE(), need - 1, listed(times))
    assert prepare(name, VPSDE(), 50, listed(times), to_clean=True).end == CLEAN


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Grid.build(VPSDE(), 0, uniform_time), "at least 1 steps, got 0"),
        (lambda: Grid.build(VPSDE(), 1, uniform_time, to_clean=True), "at least 2 steps, got 1"),
        (lambda: Grid.build(VPSDE(), 2, listed([0.9, 0.5, 0.5])), "must strictly fall, got 0.5 before 0.5"),
        (lambda: Grid.build(VPSDE(), 2, listed([0.2, 0.5, 0.1])), "must strictly fall, got 0.2 before 0.5"),
        (lambda: Grid.build(VPSDE(), 1, listed([math.nan, 0.5])), "must strictly fall, got nan before 0.5"),
        (lambda: Grid.build(VPSDE(), 1, listed([0.5, math.nan])), "must strictly fall, got 0.5 before nan"),
        (lambda: Grid.build(VPSDE(), 2, listed([1.5, 0.5, 0.1])), "in [0.001, 1.0], got 1.5"),
        (lambda: Grid.build(VPSDE(), 2, listed([0.9, 0.5, 0.0])), "in [0.001, 1.0], got 0.0"),
        (lambda: Grid.build(VPSDE(), 1, listed([math.inf, 0.5])), "in [0.001, 1.0], got inf"),
        (lambda: Grid.build(VPSDE(), 5, listed([0.9, 0.1])), "2 listed times make 1 steps, not 5"),
        (lambda: listed([0.9]), "at least 2, got [0.9]"),
        (lambda: karras(0.0), "rho must be positive and finite, got 0.0"),
        (lambda: karras(-7.0), "rho must be positive and finite, got -7.0"),
        (lambda: karras(math.inf), "rho must be positive and finite, got inf"),
        (lambda: karras(math.nan), "rho must be positive and finite, got nan"),
        (lambda: Grid.build(VPSDE(), 3, lambda sde, n: uniform_time(sde, n).flip(0)), "must strictly fall"),
    ],
)
def test_times_that_are_no_grid_raise(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_spacings_are_made_by_name() -> None:
    sde = EDM()
    for name, spacing in {
        "uniform-t": uniform_time,
        "quadratic-t": quadratic_time,
        "uniform-lambda": uniform_lam,
    }.items():
        assert make("spacing", name, SPACINGS, {}) is spacing
    assert torch.equal(make("spacing", "karras", SPACINGS, {"rho": 5.0})(sde, 9), karras(5.0)(sde, 9))
    assert make("spacing", "listed", SPACINGS, {"times": [3.0, 1.0]}) == listed([3.0, 1.0])


@pytest.mark.parametrize("name", SDES)
def test_rates_are_the_drift_and_diffusion_where_a_step_begins(name: str) -> None:
    sde = SDES[name]
    grid = Grid.build(sde, 9, uniform_lam)
    for (f, g2), level in zip(grid.rates, grid.levels, strict=False):
        t = torch.tensor(level.t, dtype=torch.float64)
        assert (f, g2) == pytest.approx(
            (sde.drift(t).item(), sde.diffusion2(t).item()), rel=1e-13
        )  # as above


def test_each_step_alone_is_the_same_step() -> None:
    grid = Grid.build(VESDE(), 6, uniform_lam)
    alone = list(grid.singly())
    assert [step.levels for step in alone] == list(grid.steps())
    assert [step.rates for step in alone] == [(rate,) for rate in grid.rates]


@given(sdes, floats(0, 1))
def test_between_is_a_fraction_of_the_way_in_lambda(sde: SDE, r: float) -> None:
    grid = Grid.build(sde, 5, uniform_lam)
    for (t, s), middle in zip(grid.steps(), grid.between(r), strict=True):
        assert middle.lam == pytest.approx(t.lam + r * (s.lam - t.lam), abs=1e-7)  # digits of 1 - t, as above
        assert middle.alpha / middle.sigma == pytest.approx(math.exp(middle.lam), rel=1e-12)  # roundings


def test_a_grid_from_alpha_0_and_to_clean_has_finite_steps_for_ddim() -> None:
    plan = Plan.make(DDIM(), RectifiedFlow(), 3, to_clean=True)
    assert (plan.start.lam, plan.end.lam) == (-math.inf, math.inf)
