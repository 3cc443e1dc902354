"""The solvers on the velocity with a corrector, and the one that suits the number of calls."""

import math
from pathlib import Path

import pytest
import torch

from scoresde import (
    EDM,
    SOLVERS,
    VPSDE,
    Denoiser,
    FlowTime,
    Karras,
    Plan,
    RectifiedFlow,
    UniformLambda,
    citation,
    integrate,
    predict,
    prepare,
    sample,
    solver_of,
)
from scoresde.solvers import Auto, ExponentialAdams
from scoresde.solvers.auto import RULE, rule
from scoresde.spacings import AtShares, Measured, Spacing, default_spacing
from scoresde.spacings.measured import Choice, ends_of
from tests.problems import SDES, Net, mixture, reference
from tests.solvers.test_order import measured_order

NAMES = ["velocity-p2c3", "velocity-p3c4", "velocity-p4c5", "velocity-p5c6"]


@pytest.mark.parametrize("name", NAMES)
def test_the_names_are_adams_on_the_velocity_with_one_output_more_in_the_corrector(name: str) -> None:
    outputs = int(name[10])
    spec = f"velocity-adams:predictor={outputs},corrector={outputs + 1}"
    spec += ",finish=lower" * (outputs < 4)
    assert SOLVERS[name] == solver_of(spec)
    assert Plan.make(SOLVERS[name], VPSDE(), 12).nfe == 12  # type: ignore[arg-type]
    assert citation(name) == citation(spec)
    assert solver_of(f"{name}:finish=same") == ExponentialAdams(
        outputs, outputs + 1, prediction="velocity", variable="u"
    )


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", [VPSDE(), RectifiedFlow()], ids=["vp", "rectified-flow"])
def test_auto_is_the_solver_of_its_rule_at_every_budget(sde: VPSDE | RectifiedFlow, to_clean: bool) -> None:
    for nfe in (*range(1 + to_clean, 35), 50, 100):
        name = "velocity-p3c4" if nfe <= 16 else "velocity-p4c5" if nfe <= 30 else "velocity-p5c6"
        assert rule(nfe) == name
        plan = prepare("auto", sde, nfe, to_clean=to_clean)
        assert plan == prepare(name, sde, nfe, to_clean=to_clean)
        assert plan.nfe == nfe
    assert [name for _, name in RULE] == ["velocity-p3c4", "velocity-p4c5", "velocity-p5c6"]
    assert RULE[-1][0] == math.inf


def test_auto_is_what_its_users_get() -> None:
    net = Denoiser(Net(), EDM(), predict.edm()).requires_grad_(False)
    by_name, by_itself, by_rule = (
        sample(net, solver, (2, 3), nfe=9, spacing=spacing)
        for solver, spacing in (("auto", None), (Auto(), None), ("velocity-p3c4", default_spacing(EDM())))
    )
    assert torch.equal(by_name, by_itself)
    assert torch.equal(by_name, by_rule)


# -------------------------------------------------------------------------------- their order


def test_orders() -> None:
    """A last step of order 1 limits the order to 2, a first step that is corrected to 3."""
    assert [SOLVERS[name].order for name in NAMES] == [2, 2, 3, 3]  # type: ignore[union-attr]
    assert Auto().order == 3
    for predictor, corrector, order in ((1, 0, 1), (1, 2, 2), (3, 0, 2), (3, 4, 2), (6, 7, 2)):
        for start in ("ramp", "iterated"):
            solver = ExponentialAdams(predictor, corrector, start=start, finish="lower")
            assert solver.order == order


@pytest.mark.parametrize("spacing", [FlowTime(), UniformLambda(), Karras()], ids=repr)
@pytest.mark.parametrize("name", ["vp", "edm", "rectified-flow"])
def test_a_lower_finish_limits_the_order_to_2(name: str, spacing: Spacing) -> None:
    """Of order 4 but for the last step, at errors of 1e-7; of order 2 with it."""
    lower, same = (
        ExponentialAdams(3, 4, "velocity", "u", start="iterated", finish=finish)
        for finish in ("lower", "same")
    )
    assert measured_order(lower, name, spacing, 320) == pytest.approx(lower.order, abs=0.1)
    assert measured_order(same, name, spacing, 160) > 3.5


@pytest.mark.parametrize("name", ["vp", "edm", "rectified-flow"])
def test_a_ramp_limits_the_order_on_the_levels_of_flow_time(name: str) -> None:
    """To 2, with a corrector to 3; on even steps of lambda the first steps are too weak to show."""
    for predictor, corrector, order in ((4, 0, 2), (5, 6, 3)):
        solver = ExponentialAdams(predictor, corrector, "velocity", "u")
        assert solver.order == order
        assert measured_order(solver, name, FlowTime(), 320) == pytest.approx(order, abs=0.1)
        assert measured_order(solver, name, UniformLambda(), 80) > order + 1


# ------------------------------------------------------------------------------- what it is for


@pytest.mark.parametrize("nfe", [5, 8, 10, 20, 50])
@pytest.mark.parametrize("name", SDES)
def test_auto_on_its_levels_is_better_than_the_stock_rules(name: str, nfe: int) -> None:
    """The error on the mixture: below that of DPM-Solver++(2M), Euler and UniPC on Karras' levels.

    Between .01 and .32 of the best of them.
    """
    x, exact = reference(name)

    def error(solver: str, spacing: Spacing | None) -> float:
        plan = prepare(solver, SDES[name], nfe, spacing)
        assert isinstance(plan, Plan)
        return (integrate(plan, mixture, x) - exact).square().mean().sqrt().item()

    others = [error(solver, Karras()) for solver in ("dpmpp-2m", "ddim", "unipc")]
    assert error("auto", None) < 0.5 * min(others)


# ---------------------------------------------------------------------- with measured levels


def measured(sde: EDM | RectifiedFlow) -> Measured:
    choices = (
        Choice(5, "velocity-adams:predictor=1", FlowTime(2, 4)),
        Choice(10, "heun", AtShares(ends_of(sde), (0, 1))),
        Choice(40, "auto", FlowTime(3)),
    )
    return Measured(type(sde).__name__, ends_of(sde), choices)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", [EDM(), RectifiedFlow()], ids=["edm", "rectified-flow"])
def test_auto_takes_the_solver_that_was_measured_with_the_levels(
    sde: EDM | RectifiedFlow, to_clean: bool
) -> None:
    """Both of one choice, the one for the number of calls, also where the levels are for fewer steps."""
    levels = measured(sde)
    for nfe in range(1 + to_clean, 60):
        choice = levels.choice(nfe)
        if choice.solver == "heun" and to_clean and nfe < 3:
            continue
        expected = prepare(choice.solver, sde, nfe, choice.spacing, to_clean=to_clean)
        for auto in ("auto", Auto()):
            assert prepare(auto, sde, nfe, levels, to_clean=to_clean) == expected
    # Any other solver takes the levels of the number of its steps.
    assert prepare("ddim", sde, 9, levels) == prepare("ddim", sde, 9, levels.choice(9).spacing)
    assert prepare("heun", sde, 9, levels) == prepare("heun", sde, 9, levels.choice(5).spacing)


def test_auto_with_a_file_of_levels(tmp_path: Path) -> None:
    measured(EDM()).save(tmp_path / "levels.json")
    spec = f"measured:file={tmp_path / 'levels.json'}"
    assert prepare("auto", "edm", 9, spec) == prepare("heun", "edm", 9, measured(EDM()).choice(9).spacing)
    net = Denoiser(Net(), EDM(), predict.edm()).requires_grad_(False)
    by_name, by_itself = (sample(net, "auto", (2, 3), nfe=9, spacing=s) for s in (spec, measured(EDM())))
    assert torch.equal(by_name, by_itself)
    with pytest.raises(TypeError, match="nfe must be an integer, got None"):
        prepare("auto", "edm", None, spec)
