"""Spacings of lists, and spacings made of other spacings."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, VPSDE, Plan, RectifiedFlow, prepare
from scoresde.processes import CLEAN
from scoresde.spacings import (
    AtLambdas,
    AtSigmas,
    AtTimes,
    Clipped,
    Grid,
    Joined,
    Karras,
    Refined,
    Shifted,
    Spacing,
    UniformLambda,
    UniformTime,
)
from scoresde.spacings.catalogue import steps_of
from tests.problems import TABLES, floats, sdes
from tests.spacings.cases import lams_of, ratios, simple


@given(sdes, simple, st.integers(1, 30), floats(0.3, 3))
def test_shifted_moves_every_level_by_log_shift(sde: SDE, spacing: Spacing, n: int, shift: float) -> None:
    by = math.log(shift)
    first, last = lams_of(sde, sde.t_max, sde.t_min)
    inner = sde.clip(first + max(by, 0), last + min(by, 0))
    lams, moved = sde.lam(spacing(inner, n)), sde.lam(Shifted(spacing, shift)(sde, n))
    moves = slice(0, n) if by > 0 else slice(1, n + 1)
    torch.testing.assert_close(moved[moves], lams[moves] - by, rtol=1e-7, atol=1e-8)  # digits of 1 - t


@given(sdes, simple, st.integers(1, 30), floats(1, 1.7), floats(1, 1.7))
def test_two_shifts_are_one(sde: SDE, spacing: Spacing, n: int, a: float, b: float) -> None:
    twice, once = Shifted(Shifted(spacing, a), b)(sde, n), Shifted(spacing, a * b)(sde, n)
    torch.testing.assert_close(sde.lam(twice), sde.lam(once), rtol=1e-7, atol=1e-8)  # digits of 1 - t


def test_a_list_is_the_same_by_t_by_sigma_and_by_lambda() -> None:
    sde = VPSDE()
    times = AtTimes([1.0, 0.6, 0.2, 1e-3])(sde, 3)
    by_sigma = AtSigmas(ratios(sde, times).tolist())(sde, 3)
    by_lam = AtLambdas(sde.lam(times).tolist())(sde, 3)
    torch.testing.assert_close(by_sigma, times, rtol=1e-12, atol=0)  # the rounding of an inverse
    torch.testing.assert_close(by_lam, times, rtol=1e-12, atol=0)
    for found in (by_sigma, by_lam):
        assert (found[0], found[-1]) == (sde.t_max, sde.t_min)
    assert AtSigmas([80.0, 2.0, 0.002])(EDM(), 2)[[0, 2]].tolist() == [80.0, 0.002]
    flow = RectifiedFlow()
    assert AtSigmas([math.inf, 1.0, 0.25])(flow, 2).tolist() == pytest.approx([1.0, 0.5, 0.2], rel=1e-15)
    assert AtLambdas([-3.0, 1.0]) == AtLambdas((-3.0, 1.0)) != AtLambdas([-3.0, 2.0])


def test_listed_times_are_used_exactly() -> None:
    times = [0.93, 0.7000000000000001, 0.3, 0.02]
    for grid in (
        Grid.build(VPSDE(), 3, AtTimes(times)),
        Grid.build(VPSDE(), 4, AtTimes(times), to_clean=True),
    ):
        assert [level.t for level in grid.levels[:4]] == times
    times[0] = 0.5  # a spacing is what it was made of
    assert AtTimes([0.9, 0.1]) == AtTimes((0.9, 0.1)) != AtTimes([0.9, 0.2])


# Not called at the grid's own levels, by definition: a step of DPM-fast goes over several of them, and churn
# raises a level before the call.
ELSEWHERE = ("dpm-fast", "churn")


@pytest.mark.parametrize("name", TABLES)
def test_listed_times_are_one_run_whatever_the_budget(name: str) -> None:
    times = [0.9, 0.7, 0.3, 0.02]
    need = Plan.make(TABLES[name], VPSDE(), 3, AtTimes(times)).nfe
    for nfe in (need, need + 1, 50):
        plan = prepare(name, VPSDE(), nfe, AtTimes(times))
        assert isinstance(plan, Plan)
        assert plan.nfe == need
        assert (plan.start.t, plan.end.t) == (0.9, 0.02)
        assert name in ELSEWHERE or set(times[:3]) <= {level.t for level in plan.levels}
    with pytest.raises(ValueError, match=f"nfe must be at least {need} .*got {need - 1}"):
        prepare(name, VPSDE(), need - 1, AtTimes(times))
    assert prepare(name, VPSDE(), 50, AtTimes(times), to_clean=True).end == CLEAN


def test_a_spacing_made_of_a_list_is_one_run_too() -> None:
    sde, times = VPSDE(), [0.9, 0.7, 0.3, 0.02]
    for spacing, steps in (
        (Refined(AtTimes(times), 4), 12),
        (Shifted(AtTimes(times), 1.5), 3),
        (Clipped(AtTimes(times), -2.0), 3),
        (Refined(Shifted(AtTimes(times), 1.5), 2), 6),
    ):
        assert steps_of(spacing) == steps
        assert prepare("ddim", sde, 50, spacing).nfe == steps
        with pytest.raises(ValueError, match=f"make {steps} steps, not 5"):
            spacing(sde, 5)
    assert steps_of(Refined(Karras(), 4)) is None
    moved = sde.lam(Shifted(AtTimes(times), 1.5)(sde, 3))
    lams = sde.lam(AtTimes(times)(sde, 3)) - math.log(1.5)
    torch.testing.assert_close(moved[:-1], lams[:-1], rtol=1e-12, atol=0)  # the rounding of an inverse
    assert Shifted(AtTimes(times), 1.5)(sde, 3)[-1] == 0.02  # the end stays, the list's own
    assert Refined(AtTimes(times), 4)(sde, 12)[::4].tolist() == times


@given(sdes, simple, floats(0.05, 0.4), floats(0.6, 0.95), st.integers(1, 30))
def test_clipped_is_the_spacing_of_a_part(sde: SDE, spacing: Spacing, a: float, b: float, n: int) -> None:
    first, last = lams_of(sde, sde.t_max, sde.t_min)
    low, high = first + a * (last - first), first + b * (last - first)
    times = Clipped(spacing, low, high)(sde, n)
    assert torch.equal(times, spacing(sde.clip(low, high), n))
    assert lams_of(sde, times[0].item(), times[-1].item()) == pytest.approx([low, high], abs=1e-8)  # as above
    assert torch.equal(Clipped(spacing)(sde, n), spacing(sde, n))


@given(sdes, simple, st.integers(1, 12), st.integers(1, 5))
def test_refined_cuts_every_step_into_equal_parts(sde: SDE, spacing: Spacing, n: int, parts: int) -> None:
    coarse, fine = spacing(sde, n), Refined(spacing, parts)(sde, parts * n)
    assert torch.equal(fine[::parts], coarse)
    steps = sde.lam(fine).diff().reshape(n, parts)
    # digits of 1 - t, as above
    torch.testing.assert_close(steps, steps.mean(1, keepdim=True).expand(n, parts), rtol=1e-6, atol=1e-8)


def test_refined_makes_any_number_of_steps() -> None:
    sde = EDM()
    for n, sizes in ((7, [4, 3]), (8, [4, 4]), (9, [3, 3, 3]), (2, [2]), (1, [1])):
        ends = [0, *np.cumsum(sizes).tolist()]
        assert torch.equal(Refined(Karras(), 3)(sde, n)[ends], Karras()(sde, len(sizes)))


def test_refined_cuts_a_step_from_alpha_0_in_t() -> None:
    times = Refined(UniformTime(), 4)(RectifiedFlow(t_min=0.2), 8)
    assert times[:5].tolist() == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6], rel=1e-15)


@given(sdes, simple, simple, floats(0.1, 0.9), st.integers(2, 40))
def test_joined_is_one_spacing_and_then_the_other(
    sde: SDE, noisy: Spacing, clean: Spacing, part: float, n: int
) -> None:
    first, last = lams_of(sde, sde.t_max, sde.t_min)
    lam = first + part * (last - first)
    times = Joined(noisy, clean, lam, 0.3)(sde, n)
    before = min(max(round(0.3 * n), 1), n - 1)
    assert torch.equal(times[:before], noisy(sde.clip(-math.inf, lam), before)[:-1])
    assert torch.equal(times[before:], clean(sde.clip(lam, math.inf), n - before))


def test_joined_gives_each_its_share_and_at_least_one_step() -> None:
    sde = EDM(0.01, 100.0)
    for share, n, before in ((0.5, 8, 4), (0.3, 10, 3), (0.01, 6, 1), (0.99, 6, 5), (0.9, 2, 1)):
        times = Joined(UniformLambda(), Karras(), 0.0, share)(sde, n)
        assert (times > 1 + 1e-9).sum() == before  # sigma = 1 is lambda = 0, but for rounding
        assert (times[0], times[-1], len(times)) == (100.0, 0.01, n + 1)
    assert Joined(UniformLambda(), Karras(), 0.0)(sde, 1).tolist() == [100.0, 0.01]


COMPOSED = {
    "Clipped.spacing": ("spacing", Clipped),
    "Shifted.spacing": ("spacing", Shifted),
    "Refined.spacing": ("spacing", Refined),
    "Joined.noisy": ("noisy", lambda noisy: Joined(noisy, Karras(), 0.0)),
    "Joined.clean": ("clean", lambda clean: Joined(Karras(), clean, 0.0)),
}


@pytest.mark.parametrize(("name", "compose"), COMPOSED.values(), ids=COMPOSED)
def test_each_spacing_inside_another_is_checked(name: str, compose: Callable[[Any], Spacing]) -> None:
    for wrong, words in (
        (Karras, f"{name}: Karras is a class; call it: Karras()"),
        ("karras", f"{name} must be a spacing, a function (sde, n) -> times such as Karras(), got 'karras'"),
        (None, f"{name} must be a spacing, a function (sde, n) -> times such as Karras(), got None"),
        (lambda sde: sde, f"{name} must be a function (sde, n) -> times, got "),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(words)}"):
            compose(wrong)
    assert compose(Karras(3.0)) == compose(Karras(3.0)) != compose(Karras(4.0))
