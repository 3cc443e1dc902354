"""Exact laws of tables: point masses, weak orders, Euler-Maruyama and Langevin steps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import VPSDE, Cosine, FlowTime, Karras, Plan, RectifiedFlow, UniformLambda, UniformTime, iterate
from scoresde.plans.tape import Solver
from scoresde.solvers import DPMSolverPP, EulerMaruyama, PredictorCorrector
from scoresde.spacings import QuadraticTime
from tests.problems import (
    MEAN,
    SDES,
    TABLES,
    floats,
    frechet,
    gaussian,
    law,
    normal,
    point_mass,
    sdes,
    spread,
)

# What cannot carry a point mass exactly, and why.
INEXACT = {
    "euler": "in t: f and g^2 are frozen over a step",
    "em": "Euler in t: f and g^2 are frozen over a step",
    "reverse-diffusion": "the paper's rule, (2 - a) x for x / a, is right to first order",
    "pc": "a Langevin step of finite size has a bias; its predictor has too",
    **dict.fromkeys(
        ("sde-dpm-1", "sde-dpm-2m", "seeds-1", "seeds-2", "seeds-3"),
        "the noise that a network sees follows every draw, and is frozen over a step",
    ),
}


EXPONENTIAL = [name for name in TABLES if name not in INEXACT]


SPACINGS = [UniformTime(), QuadraticTime(), UniformLambda(), Karras(), Karras(3.0), FlowTime()]


spacings = st.sampled_from(SPACINGS)


def with_eta(solver: Solver, eta: float) -> Solver:
    return replace(solver, eta=eta) if hasattr(solver, "eta") else solver  # type: ignore[type-var]


@given(
    sdes,
    st.sampled_from(EXPONENTIAL),
    spacings,
    st.integers(2, 30),
    st.booleans(),
    floats(0, 1),
    floats(-3, 3),
)
def test_a_point_mass_is_carried_exactly(sde, name, spacing, steps, to_clean, eta, x0) -> None:
    """alpha_T x_0 + sigma_T eps goes to alpha_0 x_0 with the total deviation sigma_0, all noise included."""
    plan = Plan.make(with_eta(TABLES[name], eta), sde, steps, spacing, to_clean=to_clean)
    data = lambda x, level, one: x0 * one  # noqa: E731
    mean, std = law(plan, data, plan.start.alpha * x0, plan.start.sigma)
    # Each step rounds numbers of the size of sigma_T = 500 at most, 1e-16 each, and there are 60 at most.
    assert mean == pytest.approx(plan.end.alpha * x0, abs=1e-12 * max(1, plan.start.sigma))
    assert std == pytest.approx(plan.end.sigma, abs=1e-12 * max(1, plan.start.sigma))


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", EXPONENTIAL)
def test_a_point_mass_is_carried_exactly_from_alpha_0(name: str, to_clean: bool) -> None:
    plan = Plan.make(TABLES[name], RectifiedFlow(), 12, UniformTime(), to_clean=to_clean)
    assert plan.start.alpha == 0
    law_of_end = law(plan, point_mass, 0.0, 1.0)
    # Twelve steps of numbers of size 1.
    assert law_of_end == pytest.approx((plan.end.alpha, plan.end.sigma), abs=1e-13)


@pytest.mark.parametrize("name", INEXACT)
def test_the_exceptions_are_ones(name: str) -> None:
    """What is excused above does need it: its error on a point mass is real, and of order 1."""
    errors = []
    for steps in (80, 160):
        plan = Plan.make(TABLES[name], VPSDE(), steps, UniformLambda())
        mean, std = law(plan, point_mass, plan.start.alpha, plan.start.sigma)
        errors.append(math.hypot(mean - plan.end.alpha, std - plan.end.sigma))
    assert errors[0] > 1e-5
    assert math.log2(errors[0] / errors[1]) > 0.8  # as much below order 1 as is allowed for anything


@pytest.mark.parametrize("sde", ["vp", "rectified-flow"])
@pytest.mark.parametrize("name", TABLES)
def test_weak_order_on_gaussian_data(name: str, sde: str) -> None:
    """The exact law of the output, against the law it should have, gains 2^order in twice the steps.

    A higher gain is no fault: on data this smooth 3M has order 4, and Euler-Maruyama on VE order 2.
    """
    solver = TABLES[name]
    coarse, fine = (frechet(Plan.make(solver, SDES[sde], n, UniformLambda())) for n in (80, 320))
    # 0.2: the next term of the error; rk4 and exp-rk4 are at 1e-11 by then, where only roundings are left.
    assert math.log2(coarse / fine) / 2 >= solver.order - 0.2 or fine < 1e-11


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_sde_form_of_dpm_solver_pp_has_its_order_at_any_eta(order: int, eta: float) -> None:
    plans = [Plan.make(DPMSolverPP(order, eta), VPSDE(), steps, UniformLambda()) for steps in (80, 160)]
    errors = [frechet(plan) for plan in plans]
    assert math.log2(errors[0] / errors[1]) >= min(order, 2) - 0.2  # as above; noise leaves weak order 2


def test_the_weak_order_tells_the_published_3m_from_the_corrected_one() -> None:
    """On even steps of lambda, where the first steps do not show."""

    def order(sde: str, published: bool) -> float:
        solver = DPMSolverPP(3, published=published)
        plans = [Plan.make(solver, SDES[sde], steps, UniformLambda()) for steps in (80, 160)]
        return math.log2(frechet(plans[0]) / frechet(plans[1]))

    for sde in ("vp", "edm", "cosine", "rectified-flow"):
        assert order(sde, published=True) < 2.2
        assert order(sde, published=False) > 2.8


def test_the_corrected_3m_integrates_its_parabola_exactly() -> None:
    """Its weights are those of the parabola through three outputs, integrated by quadrature."""
    points, weights = np.polynomial.legendre.leggauss(40)
    for eta in (0.0, 0.7):
        plan = Plan.make(DPMSolverPP(3, eta), Cosine(t_min=1e-2), 9, QuadraticTime())
        lams = [level.lam for level in plan.levels] + [plan.end.lam]
        levels = [*plan.levels, plan.end]
        kept = [line for line in plan.lines if line.level is None]
        for i in range(2, 9):
            h = lams[i + 1] - lams[i]
            u = (points + 1) / 2 * h  # in lam, from the beginning of the step
            nodes = [lams[i - j] - lams[i] for j in range(3)]
            row = dict(kept[i].row)
            for j in range(3):
                others = [node for node in nodes if node != nodes[j]]
                lagrange = np.prod([(u - other) / (nodes[j] - other) for other in others], 0)
                decay = (1 + eta) * np.exp(-(1 + eta) * (h - u))
                expected = levels[i + 1].alpha * (weights / 2 * h * lagrange * decay).sum()
                # 40 points integrate so smooth a function to the last digit; the weights are of size 1.
                assert row[f"d{i - j}"] == pytest.approx(expected, abs=1e-12)


def test_euler_maruyama_has_the_law_of_its_formula() -> None:
    """One step, written out: x + dt (f x - (1 + eta^2) / 2 g^2 score) + eta g sqrt(-dt) z."""
    sde, eta = VPSDE(), 0.6
    plan = Plan.make(EulerMaruyama(eta), sde, 1, UniformTime())
    beta_max = sde.beta_max  # at t = 1, f = -beta / 2 and g^2 = beta
    t, dt = plan.start, sde.t_max - sde.t_min
    score = (t.alpha * MEAN - 1.3) / (t.alpha**2 * 0.25 + t.sigma**2)
    drift = -beta_max / 2 * 1.3 - (1 + eta**2) / 2 * beta_max * score
    mean, std = law(plan, gaussian, 1.3, 0.0)
    # A few roundings of numbers of size 20.
    assert mean == pytest.approx(1.3 - dt * drift, abs=1e-12)
    assert std == pytest.approx(eta * math.sqrt(beta_max * dt), rel=1e-12)


def test_a_langevin_step_leaves_the_law_that_its_size_says() -> None:
    """Repeated at one level, x + e score + sqrt(2 e) z settles at the variance v / (1 - e / 2v), not v."""
    sde, snr = VPSDE(t_min=0.3), 0.2
    plan = Plan.make(PredictorCorrector(snr=snr, corrections=400), sde, 1)
    mean, std = law(plan, gaussian, 0.0, 1.0)
    v, e = spread(plan.end) ** 2, 2 * (snr * plan.end.sigma) ** 2
    # 400 steps shrink what came before to (1 - e / v)^400 < 1e-10.
    assert mean == pytest.approx(plan.end.alpha * MEAN, abs=1e-9)
    assert std**2 == pytest.approx(v / (1 - e / (2 * v)), rel=1e-9)


def test_the_measured_langevin_step_is_the_papers() -> None:
    """e = 2 (snr |z| / |score|)^2 with norms averaged over the batch (Song et al. 2021, Algorithm 5)."""
    sde, snr = VPSDE(), 0.16
    plan = Plan.make(PredictorCorrector(snr=snr, measured=True), sde, 1)
    z = [normal(6, 2, 3, seed=i) for i in range(2)]
    before, after = iterate(plan, gaussian, normal(6, 2, 3, seed=5), lambda i: z[i])
    level = plan.end
    score = (level.alpha * gaussian(before, level) - before) / level.sigma**2
    norm = lambda x: x.square().sum((1, 2)).sqrt().mean()  # noqa: E731
    e = 2 * (snr * norm(z[1]) / norm(score)) ** 2
    expected = before + e * score + (2 * e).sqrt() * z[1]
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)  # the same formula


@pytest.mark.parametrize("name", TABLES)
def test_a_predictor_may_be_any_solver(name: str) -> None:
    """With hardly any Langevin noise the corrector does nothing, and the law is the predictor's own."""
    alone = Plan.make(TABLES[name], VPSDE(), 1)
    plan = Plan.make(PredictorCorrector(predictor=TABLES[name], snr=1e-9), VPSDE(), 1)
    start = (plan.start.alpha * MEAN, spread(plan.start))
    # The Langevin step adds about snr.
    assert law(plan, gaussian, *start) == pytest.approx(law(alone, gaussian, *start), abs=1e-8)
