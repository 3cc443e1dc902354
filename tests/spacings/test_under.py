"""The levels of a spacing under another process."""

import math
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    ExactDenoiser,
    FlowTime,
    Karras,
    Mixture,
    Plan,
    RectifiedFlow,
    Transported,
    UniformTime,
    integrate,
    prepare,
)
from scoresde.solvers import DPMSolverPP
from scoresde.spacings import AtTimes, Grid, Shifted, Spacing, Under, spacing_of
from scoresde.spacings.catalogue import steps_of
from tests.problems import MEANS, SDES, SHARES, STDS, floats, normal, sdes
from tests.spacings.cases import lams_of, simple


def shared(sde: SDE, other: SDE) -> tuple[float, float]:
    """The range of lambda that two processes share."""
    (a, b), (c, d) = sde.lam_ends(), other.lam_ends()
    return max(a, c), min(b, d)


@given(sdes, sdes, simple, st.integers(1, 30))
def test_it_has_the_sigma_over_alpha_of_the_other_process(
    sde: SDE, other: SDE, spacing: Spacing, n: int
) -> None:
    first, last = shared(sde, other)
    assume(last - first > 0.1)
    times, part = Under(spacing, other)(sde, n), other.clip(first, last)
    theirs = part.lam(spacing(part, n))
    torch.testing.assert_close(sde.lam(times), theirs, rtol=1e-7, atol=1e-6)  # digits of 1 - t
    assert times.diff().max() < 0
    # An end of the run is exact, if the other process reaches it.
    if first == sde.lam_ends()[0]:
        assert times[0] == sde.t_max
    if last == sde.lam_ends()[1]:
        assert times[-1] == sde.t_min


@pytest.mark.parametrize("other", SDES)
@pytest.mark.parametrize("name", ["vp", "edm", "rectified-flow"])
def test_it_is_the_detour_through_a_transported_denoiser(name: str, other: str) -> None:
    """A run under the other process, and the same levels without it: equal x / alpha at the end."""
    mixture = Mixture(MEANS[:, None], STDS, SHARES)
    sde = SDES[name].clip(*shared(SDES[name], SDES[other]))
    denoiser = ExactDenoiser(mixture, sde)
    moved = Transported(denoiser, SDES[other])
    here = Plan.make(DPMSolverPP(2), sde, 12, Under(UniformTime(), SDES[other]))
    there = Plan.make(DPMSolverPP(2), moved.sde, 12, UniformTime())
    x = normal(9, 1)
    ends = [
        integrate(plan, d, plan.start.alpha * x) / plan.end.alpha
        for plan, d in ((here, denoiser), (there, moved))
    ]
    # An end that is moved to the run's own differs by the digits of lambda near t = 1.
    torch.testing.assert_close(*ends, rtol=1e-8, atol=1e-8)


@given(sdes, simple, st.integers(1, 30))
def test_under_its_own_process_a_spacing_is_itself(sde: SDE, spacing: Spacing, n: int) -> None:
    own = sde.lam(spacing(sde, n))
    torch.testing.assert_close(sde.lam(Under(spacing, sde)(sde, n)), own, rtol=1e-7, atol=1e-6)  # as above


def test_alpha_0_is_reached_where_both_processes_have_it() -> None:
    flow, edm = RectifiedFlow(), EDM()
    under = Under(UniformTime(), flow)(flow, 8)
    assert (under[0], under[-1]) == (1.0, flow.t_min)
    torch.testing.assert_close(under, UniformTime()(flow, 8), rtol=1e-14, atol=0)  # roundings of an inverse
    # From the largest noise of the other process, as from the end of a part of the run's.
    times = Under(Karras(), edm)(flow, 8)
    assert times[0].item() == pytest.approx(80 / 81, rel=1e-12)
    assert times[-1].item() == pytest.approx(0.002 / 1.002, rel=1e-12)  # above the t_min of the flow
    levels = Grid.build(edm, 8, Under(FlowTime(), flow)).levels
    assert levels[0].t == 80.0


@given(floats(1e-8, 1e-2), st.integers(1, 20))
def test_the_ends_are_exact_where_a_time_near_1_has_lost_digits(gap: float, n: int) -> None:
    """At 1 - t = 1e-8 lambda has 8 digits."""
    flow, wide = RectifiedFlow(t_max=1 - gap), EDM(1e-4, 1e9)
    for sde, other in ((flow, wide), (EDM(*((t / (1 - t)) for t in (flow.t_min, flow.t_max))), flow)):
        times = Under(Karras(), other)(sde, n)
        assert times[0] == sde.t_max
        assert times.diff().max() < 0


def test_a_list_under_another_process_is_one_run() -> None:
    spacing, sde = Under(AtTimes([50.0, 3.0, 0.1]), EDM()), VPSDE()
    assert steps_of(spacing) == steps_of(Shifted(spacing, 1.5)) == 2
    assert steps_of(Under(Karras(), EDM())) is None
    assert prepare("ddim", sde, 99, spacing).nfe == 2
    ratios = [math.exp(-lam) for lam in lams_of(sde, *spacing(sde, 2).tolist())]
    assert ratios == pytest.approx([50.0, 3.0, 0.1], rel=1e-12)
    with pytest.raises(ValueError, match="make 2 steps, not 5"):
        spacing(sde, 5)
    with pytest.raises(ValueError, match=r"sigma / alpha in \[0\.01.*, 152.*\], got .*sigma / alpha = 200"):
        Under(AtTimes([200.0, 3.0]), EDM())(sde, 1)


def test_processes_with_no_noise_in_common_are_refused() -> None:
    words = "EDM(t_min=200.0, t_max=300.0) has no sigma / alpha in common with VPSDE("
    with pytest.raises(ValueError, match=re.escape(words)):
        Under(Karras(), EDM(200.0, 300.0))(VPSDE(), 5)


def test_it_has_a_name_with_options() -> None:
    spacing = spacing_of("under:spacing=karras:rho=5,sde=edm")
    assert spacing == Under(Karras(5.0), EDM()) == Under(Karras(5.0), "edm")  # type: ignore[arg-type]
    assert prepare("ddim", "vp", 5, spacing) == prepare("ddim", "vp", 5, "under:spacing=karras:rho=5,sde=edm")
    with pytest.raises(ValueError, match="unknown SDE 'edn'; did you mean 'edm'"):
        spacing_of("under:spacing=karras,sde=edn")
    with pytest.raises(ValueError, match=re.escape("spacing 'under' needs the option sde: under:sde=...")):
        spacing_of("under:spacing=karras")


def test_what_is_no_process_is_refused() -> None:
    with pytest.raises(TypeError, match=r"call it: VPSDE\(\)"):
        Under(Karras(), VPSDE)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sde must be an SDE or its name, got int"):
        Under(Karras(), 3)  # type: ignore[arg-type]
