"""A table is every deterministic plan in one form, and a family moves it within bounds."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, MIXTURE, SDES, family, moved, noises

from scoresde import SOLVERS, VPSDE, ExactDenoiser, Karras, Mixture, Plan, integrate
from scoresde.denoisers.gaussian import gaussian_factor
from scoresde.plans.executor import iterate
from scoresde.solvers import AnalyticalFirstStep, DPMSolverPP, ExponentialAdams
from scoresde.spacings import AtLambdas
from scoresde.tuning.candidates import stock_candidates, stock_spacings
from scoresde.tuning.table import Table


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_every_stock_plan_is_a_table(sde):
    denoiser, x = ExactDenoiser(MIXTURE, sde), noises(sde, 4)
    names = ("heun", "dpm-fast", "pndm", "unipc", "ipndm", "deis-t", "velocity-adams", "exp-rk4")
    candidates = stock_candidates(sde, 6, {name: SOLVERS[name] for name in names}, stock_spacings(["karras"]))
    assert len(candidates) == len(names)
    for candidate in candidates:
        plan = Plan.within(6, SOLVERS[candidate.solver], sde, Karras())
        end = integrate(plan, denoiser, x)
        torch.testing.assert_close(integrate(candidate.table.plan(), denoiser, x), end, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(candidate.table.run(denoiser, x), end, rtol=1e-9, atol=1e-9)
        assert candidate.table.plan().nfe == plan.nfe


def test_the_table_of_a_table_is_the_same():
    of = family()
    table = of.table(moved(of)[0])
    again = Table.read(table.plan())
    assert again.levels == table.levels
    np.testing.assert_allclose(again.decay, table.decay, rtol=1e-14)
    np.testing.assert_allclose(again.weights, table.weights, rtol=1e-12, atol=1e-15)
    assert again.rounded_key == table.rounded_key
    assert of.initial.rounded_key != table.rounded_key


def test_a_plan_that_draws_noise_has_no_table():
    with pytest.raises(ValueError, match="deterministic"):
        Table.read(Plan.make(SOLVERS["ancestral"], CLIPPED, 4))


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize(
    "solver", [DPMSolverPP(2), DPMSolverPP(3), ExponentialAdams(3, corrector=4)], ids=str
)
def test_no_corrections_are_the_stock_plan(sde, solver):
    of = family(sde, 5, solver)
    plan = Plan.make(solver, sde, 5, Karras())
    x, denoiser = noises(sde, 4), ExactDenoiser(MIXTURE, sde)
    assert of.initial.first == 1
    torch.testing.assert_close(
        integrate(of.initial.plan(), denoiser, x), integrate(plan, denoiser, x), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_the_analytical_first_step_is_exact_on_normal_data(sde):
    variance = 0.49
    normal = Mixture(torch.zeros(1, 3).double(), torch.tensor([0.7]).double(), torch.ones(1).double())
    plan = Plan.make(DPMSolverPP(3), sde, 400)
    x = noises(sde, 4)
    states = [x, *iterate(plan, ExactDenoiser(normal, sde), x)]
    level = plan.levels[160]
    torch.testing.assert_close(
        gaussian_factor(plan.start, level, variance) * x, states[160], rtol=1e-4, atol=1e-5
    )


def test_an_analytical_first_step_is_the_step_and_then_the_solver():
    sde, inner = VPSDE(), DPMSolverPP(2)
    plan = Plan.make(AnalyticalFirstStep(inner, 0.3), sde, 6, Karras())
    whole = Plan.make(inner, sde, 6, Karras())
    rest = Plan.make(inner, sde, 5, AtLambdas([level.lam for level in (*whole.levels[1:], whole.end)]))
    assert plan.nfe == rest.nfe == 5
    assert [level.lam for level in plan.levels] == pytest.approx([level.lam for level in rest.levels])
    x = torch.randn(4, 3, dtype=torch.float64)
    exact = ExactDenoiser(MIXTURE, sde)
    expected = integrate(rest, exact, gaussian_factor(whole.start, whole.levels[1], 0.3) * x)
    torch.testing.assert_close(integrate(plan, exact, x), expected, rtol=1e-9, atol=1e-12)
    assert Plan.make(AnalyticalFirstStep(inner), sde, 1) == Plan.make(inner, sde, 1)
    for variance in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="variance must be finite and at least 0"):
            AnalyticalFirstStep(inner, variance)


def test_a_first_knot_that_moves_brings_its_first_step():
    of = family()
    theta = np.zeros(of.size)
    theta[of.indices(["first_step"])] = 0.7
    table = of.table(theta)
    assert table.levels[0].lam == pytest.approx(of.lams[0] + 0.7, abs=1e-12)
    assert table.first == pytest.approx(gaussian_factor(table.start, table.levels[0], 0.5), rel=1e-14)
    assert table.levels[-1].lam == pytest.approx(of.lams[-1], abs=1e-12)


@pytest.mark.parametrize("by", [-30.0, 30.0])
def test_knots_never_cross(by):
    of = family()
    theta, _ = moved(of, ["knots", "first_step"], by)
    lams = [level.lam for level in of.table(theta).levels]
    assert all(t < s for t, s in pairwise(lams))
    assert lams[0] >= of.lams[0]
    assert lams[-1] == pytest.approx(of.lams[-1], abs=1e-12)
