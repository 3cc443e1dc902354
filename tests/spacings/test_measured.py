"""Levels at shares of a density, and the choice of measured levels for a number of calls."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, VESDE, VPSDE, FlowTime, Karras, RectifiedFlow, prepare
from scoresde.spacings import AtShares, Grid, Measured
from scoresde.spacings.measured import Choice, ends_of
from tests.problems import sdes
from tests.spacings.cases import fractions

# ----------------------------------------------------------------------------------- at shares


def u_of(sde: SDE, times: torch.Tensor) -> torch.Tensor:
    """sigma / (alpha + sigma)."""
    return torch.sigmoid(-sde.lam(times))


@given(sdes, st.integers(1, 60))
def test_even_shares_are_even_steps_of_u(sde: SDE, n: int) -> None:
    times = AtShares(ends_of(sde), (0, 1))(sde, n)
    assert (times[0], times[-1]) == (sde.t_max, sde.t_min)  # to the last bit
    torch.testing.assert_close(
        sde.lam(times), sde.lam(FlowTime(1)(sde, n)), rtol=1e-9, atol=1e-9
    )  # roundings


@given(sdes, st.lists(st.floats(0.05, 0.95), unique=True, max_size=9), st.data(), st.integers(1, 60))
def test_level_i_is_where_the_share_is_i_of_n(
    sde: SDE, inner: list[float], data: st.DataObject, n: int
) -> None:
    first, last = ends_of(sde)
    u = [first, *(last + part * (first - last) for part in sorted(inner, reverse=True)), last]
    steps = data.draw(st.lists(st.floats(0.01, 1), min_size=len(u) - 1, max_size=len(u) - 1))
    shares = [0.0, *(np.cumsum(steps)[:-1] / sum(steps)).tolist(), 1.0]
    times = AtShares(u, shares)(sde, n)
    assert (times[0], times[-1]) == (sde.t_max, sde.t_min)
    assert times.diff().max() < 0
    reached = np.interp(u_of(sde, times).numpy()[::-1], u[::-1], shares[::-1])[::-1]
    assert reached == pytest.approx(fractions(n).numpy(), abs=1e-7)  # a steep share times the digits of u


def test_nodes_at_levels_are_these_levels() -> None:
    sde = VPSDE()
    levels = Karras()(sde, 12)
    at = AtShares(u_of(sde, levels).tolist(), fractions(12).tolist())
    torch.testing.assert_close(at(sde, 12), levels, rtol=1e-11, atol=0)  # the rounding of 1 - u
    torch.testing.assert_close(at(sde, 4), levels[::3], rtol=1e-11, atol=0)


def test_shares_by_hand_from_alpha_0() -> None:
    """A quarter of the levels down to t = 0.6, the rest from there to 0.1."""
    sde = RectifiedFlow(t_min=0.1)
    at = AtShares([1.0, 0.6, 0.1], [0.0, 0.25, 1.0])
    assert at(sde, 8).tolist() == pytest.approx(
        [1, 0.8, 0.6, *(0.6 - 0.5 * i / 6 for i in range(1, 7))], rel=1e-14
    )
    assert at(sde, 1).tolist() == [1.0, 0.1]
    levels = Grid.build(sde, 8, "at-shares:u=[1,0.6,0.1],shares=[0,0.25,1]").levels
    assert (levels[0].alpha, levels[2].t) == (0.0, pytest.approx(0.6, rel=1e-14))


@pytest.mark.parametrize(
    ("u", "shares", "message"),
    [
        ([0.9], [0.0], "u and shares must be at least 2 numbers each, as many of one as of the other, got 1"),
        ([0.9, 0.1], [0.0, 0.5, 1.0], "as many of one as of the other, got 2 and 3"),
        ([0.1, 0.9], [0, 1], "u must strictly fall within (0, 1], got 0.1 before 0.9"),
        ([0.9, 0.9], [0, 1], "u must strictly fall within (0, 1], got 0.9 before 0.9"),
        ([1.1, 0.1], [0, 1], "u must strictly fall within (0, 1], got 1.1 before 0.1"),
        ([0.9, 0.0], [0, 1], "u must strictly fall within (0, 1], got 0.9 before 0.0"),
        ([0.9, math.nan, 0.1], [0, 0.5, 1], "u must strictly fall within (0, 1], got 0.9 before nan"),
        ([math.inf, 0.1], [0, 1], "u must strictly fall within (0, 1], got inf before 0.1"),
        ([0.9, 0.5, 0.1], [0, 1, 1], "shares must strictly rise, got 1.0 before 1.0"),
        ([0.9, 0.5, 0.1], [0, math.nan, 1], "shares must strictly rise, got 0.0 before nan"),
        ([0.9, 0.1], [0.1, 1], "shares must be from 0 to 1, got 0.1 to 1.0"),
        ([0.9, 0.1], [0, 2], "shares must be from 0 to 1, got 0.0 to 2.0"),
    ],
)
def test_what_is_no_density_is_refused(u: list[float], shares: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AtShares(u, shares)


@given(sdes, st.floats(0, 0.45), st.floats(0.55, 1), st.floats(0.05, 0.95), st.integers(1, 30))
def test_a_part_of_the_nodes_has_equal_shares_of_the_density_there(
    sde: SDE, a: float, b: float, middle: float, n: int
) -> None:
    first, last = sde.lam_ends()
    part = sde.clip(first + a * (last - first), first + b * (last - first))
    u = [ends_of(sde)[0], ends_of(sde)[1] + middle * (ends_of(sde)[0] - ends_of(sde)[1]), ends_of(sde)[1]]
    times = AtShares(u, (0, 0.3, 1))(part, n)
    assert (times[0], times[-1]) == (part.t_max, part.t_min)  # to the last bit
    reached = np.interp(u_of(sde, times).numpy()[::-1], u[::-1], [1, 0.3, 0])[::-1]
    even = reached[0] + fractions(n).numpy() * (reached[-1] - reached[0])
    assert reached == pytest.approx(even, abs=1e-7)  # a steep share times the digits of u


@pytest.mark.parametrize("other", [EDM(t_max=80.1), EDM(t_min=0.0019), VPSDE(), RectifiedFlow()], ids=repr)
def test_shares_end_with_their_nodes(other: SDE) -> None:
    at = AtShares(ends_of(EDM()), (0, 1))
    assert at(VESDE(0.002, 80.0), 3).shape == (4,)  # another process with the same ends
    words = f"for {other}, got from 0.987654321 to 0.00199600798"
    with pytest.raises(ValueError, match=re.escape(words)):
        at(other, 3)


# ------------------------------------------------------------------------------------- choices


CHOICES = (
    Choice(5, "velocity-p2c3", FlowTime(2, 4.1)),
    Choice(10, "velocity-adams:predictor=3,corrector=4", AtShares((*ends_of(EDM()),), (0, 1))),
    Choice(20, "ddim", FlowTime(1 / 3, 0.1, 0.7)),
)
LEVELS = Measured("EDM", ends_of(EDM()), CHOICES, {"network": "a", "deep": [{"a": None}, 0.1]})


def at(*calls: int) -> Measured:
    return Measured("EDM", ends_of(EDM()), tuple(Choice(n, "ddim", FlowTime()) for n in calls))


def test_the_choice_is_the_nearest_in_proportion() -> None:
    for calls, nearest in {1: 5, 5: 5, 7: 5, 8: 10, 10: 10, 14: 10, 15: 20, 20: 20, 1000: 20}.items():
        assert LEVELS.choice(calls).calls == nearest


@given(st.sets(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 300))
def test_no_choice_is_nearer_and_of_two_as_near_it_is_the_smaller(calls: set[int], n: int) -> None:
    found = at(*sorted(calls)).choice(n).calls
    for other in calls:  # in whole numbers: max(n, c) / min(n, c)
        near, far = max(n, found) * min(n, other), max(n, other) * min(n, found)
        assert near < far or (near == far and found <= other)


@pytest.mark.parametrize(("calls", "n"), [((5, 20), 10), ((4, 9), 6), ((3, 27), 9), ((7, 63), 21)])
def test_a_tie_is_exact(calls: tuple[int, ...], n: int) -> None:
    """In logarithms 6 / 4 and 9 / 6 may differ by a rounding."""
    assert at(*calls).choice(n).calls == calls[0]


def test_a_run_has_the_levels_of_its_choice() -> None:
    for n, choice in ((4, CHOICES[0]), (9, CHOICES[1]), (30, CHOICES[2])):
        assert torch.equal(LEVELS(EDM(), n), choice.spacing(EDM(), n))
    # A run that ends at sigma = 0 has one step less on the levels.
    levels = Grid.build(EDM(), 8, LEVELS, to_clean=True).levels
    assert [level.t for level in levels[:-1]] == CHOICES[0].spacing(EDM(), 7).tolist()


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no choice": (
        lambda: at(),
        ValueError,
        "choices must be at least one, of rising numbers of calls, got []",
    ),
    "calls that fall": (lambda: at(10, 5), ValueError, "of rising numbers of calls, got [10, 5]"),
    "calls twice": (lambda: at(5, 5), ValueError, "of rising numbers of calls, got [5, 5]"),
    "shares of a smaller range": (
        lambda: Measured("EDM", (0.99, 0.1), CHOICES),
        ValueError,
        "u of a choice must hold from 0.99 to 0.1, got from 0.987654321 to 0.00199600798",
    ),
    "no calls": (lambda: at(0), ValueError, "calls must be at least 1, got 0"),
    "calls of text": (lambda: Choice("5", "ddim", FlowTime()), TypeError, "calls must be an integer"),  # type: ignore[arg-type]
    "no solver": (
        lambda: Choice(5, "", FlowTime()),
        TypeError,
        "solver must be the name of a solver, got ''",
    ),
    "a solver": (lambda: Choice(5, Karras(), FlowTime()), TypeError, "must be the name of a solver"),  # type: ignore[arg-type]
    "a spacing": (
        lambda: Choice(5, "ddim", Karras()),
        TypeError,
        "must be a FlowTime or an AtShares, got Karras",
    ),  # type: ignore[arg-type]
    "a process": (lambda: Measured(EDM(), (1, 0.5), CHOICES), TypeError, "process must be the name"),  # type: ignore[arg-type]
    "one end": (lambda: Measured("EDM", (0.5,), CHOICES), ValueError, "ends must be 2 numbers"),  # type: ignore[arg-type]
    "ends that rise": (
        lambda: Measured("EDM", (0.1, 0.9), CHOICES),
        ValueError,
        "strictly fall within (0, 1]",
    ),
    "ends of NaN": (lambda: Measured("EDM", (math.nan, 0.1), CHOICES), ValueError, "strictly fall within"),
    "noise beyond all": (lambda: Measured("EDM", (1.5, 0.1), CHOICES), ValueError, "strictly fall within"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_measurement_is_refused(case: str) -> None:
    make, kind, words = WRONG[case]
    with pytest.raises(kind, match=re.escape(words)):
        make()


@pytest.mark.parametrize(
    "other",
    [
        VESDE(0.002, 80.0),  # another process, the same ends
        EDM(t_max=80.1),
        EDM(t_min=0.0021),
        EDM(t_max=1e9),
        RectifiedFlow(),
    ],
    ids=repr,
)
def test_another_process_or_range_is_refused(other: SDE) -> None:
    words = (
        "measured levels: measured on EDM with u = sigma / (alpha + sigma) from 0.987654321 to "
        f"0.00199600798, not on {other} with u from "
    )
    for use in (lambda: LEVELS(other, 5), lambda: prepare("auto", other, 5, LEVELS)):
        with pytest.raises(ValueError, match=re.escape(words) + r"\S+ to \S+; measure on this process$"):
            use()
    near = EDM(t_max=80 * (1 + 1e-9))  # a rounding is no other range
    assert LEVELS(near, 5)[0] == near.t_max


def test_levels_from_alpha_0_are_for_a_run_from_alpha_0() -> None:
    levels = Measured("RectifiedFlow", ends_of(RectifiedFlow()), CHOICES[:1])
    assert levels.ends == pytest.approx((1.0, 1e-3), rel=1e-14)
    assert levels(RectifiedFlow(), 3)[0] == 1.0
    with pytest.raises(ValueError, match="not on RectifiedFlow"):
        levels(RectifiedFlow(t_max=1 - 1e-6), 3)  # u differs by 1e-6, sigma / alpha by all
