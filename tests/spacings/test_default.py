"""One place for the spacing of a run that names none."""

from collections.abc import Callable
from typing import Any

import pytest

from scoresde import EDM, SDE, VPSDE, FlowTime, Karras, Plan, RectifiedFlow, UniformTime, prepare
from scoresde.solvers import DDIM
from scoresde.spacings import Grid, default_spacing, program_spacing, spacing_of
from scoresde.spacings.default import SCALE
from tests.problems import SDES

LEVELS = FlowTime(2, SCALE)


@pytest.mark.parametrize("sde", [*SDES.values(), RectifiedFlow()], ids=repr)
def test_the_default_of_the_library_and_of_auto_is_flow_time_on_every_sde(sde: SDE) -> None:
    assert default_spacing(sde) == spacing_of(program_spacing(sde, "auto")) == LEVELS


@pytest.mark.parametrize("solver", ["dpm2", "ode:method=dopri5", "automatic", "velocity-p3c4"])
def test_programs_use_karras_for_a_named_solver_where_lambda_has_a_beginning(solver: str) -> None:
    for sde in (VPSDE(), EDM(), RectifiedFlow().clip(-5.0, 5.0)):
        assert spacing_of(program_spacing(sde, solver)) == Karras()
    assert spacing_of(program_spacing(RectifiedFlow(), solver)) == LEVELS


@pytest.mark.parametrize("sde", [VPSDE(), RectifiedFlow()], ids=["vp", "rectified-flow"])
@pytest.mark.parametrize(
    "levels",
    [
        lambda sde, spacing: Grid.build(sde, 5, spacing).levels,
        lambda sde, spacing: Plan.make(DDIM(), sde, 5, spacing),
        lambda sde, spacing: prepare("dpmpp-2m", sde, 5, spacing),
        lambda sde, spacing: prepare("pc", sde, 9, spacing),
        lambda sde, spacing: prepare("auto", sde, 9, spacing),
    ],
    ids=["Grid", "Plan", "prepare", "prepare, pc", "prepare, auto"],
)
def test_the_library_uses_its_default(sde: SDE, levels: Callable[..., Any]) -> None:
    assert levels(sde, None) == levels(sde, LEVELS)
    assert levels(sde, None) != levels(sde, UniformTime())
