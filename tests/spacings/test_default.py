"""One place for the spacing of a run that names none."""

from collections.abc import Callable
from typing import Any

import pytest

from scoresde import EDM, SDE, VPSDE, Karras, Plan, RectifiedFlow, UniformLambda, UniformTime, prepare
from scoresde.solvers import DDIM
from scoresde.spacings import Grid, Spacing, default_spacing, program_spacing, spacing_of

WITH_BEGINNING, WITHOUT = VPSDE(), RectifiedFlow()


@pytest.mark.parametrize(
    ("sde", "library", "program"),
    [
        (WITH_BEGINNING, UniformLambda(), Karras()),
        (EDM(), UniformLambda(), Karras()),
        (WITHOUT, UniformTime(), UniformTime()),
        (WITHOUT.clip(-5.0, 5.0), UniformLambda(), Karras()),
    ],
)
def test_defaults_need_no_lambda_where_it_has_no_beginning(
    sde: SDE, library: Spacing, program: Spacing
) -> None:
    assert default_spacing(sde) == library
    assert spacing_of(program_spacing(sde)) == program


@pytest.mark.parametrize("sde", [WITH_BEGINNING, WITHOUT], ids=["vp", "rectified-flow"])
@pytest.mark.parametrize(
    "levels",
    [
        lambda sde, spacing: Grid.build(sde, 5, spacing).levels,
        lambda sde, spacing: Plan.make(DDIM(), sde, 5, spacing),
        lambda sde, spacing: prepare("dpmpp-2m", sde, 5, spacing),
        lambda sde, spacing: prepare("pc", sde, 9, spacing),
    ],
    ids=["Grid", "Plan", "prepare", "prepare, pc"],
)
def test_the_library_uses_its_default(sde: SDE, levels: Callable[..., Any]) -> None:
    assert levels(sde, None) == levels(sde, default_spacing(sde))
