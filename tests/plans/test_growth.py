"""The growth of a run on normal data, from its weights, against the executor on vectors of coefficients."""

import math

import pytest

from scoresde import EDM, VPSDE, Level, Plan, RectifiedFlow, UniformTime, integrate
from scoresde.plans.growth import DEVIATIONS, exact_deviation, growth, normal_gain
from scoresde.solvers import DDIM, PredictorCorrector
from scoresde.spacings import AtTimes
from tests.problems import SDES, TABLES, law, normal


def carried(plan: Plan, deviation: float) -> float:
    """The deviation at the end, by the executor, on data N(0, deviation^2)."""
    denoise = lambda x, level, one: normal_gain(level, deviation**2) * x  # noqa: E731
    mean, std = law(plan, denoise, 0.0, plan.start.sigma)
    assert mean == 0
    return std


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", ["vp", "edm", "rectified-flow"])
@pytest.mark.parametrize("name", TABLES)
def test_growth_is_that_of_the_run(name: str, sde: str, to_clean: bool) -> None:
    plan = Plan.make(TABLES[name], SDES[sde], 7, to_clean=to_clean)
    for deviation in (0.05, 0.5, 2.0):
        exact = math.hypot(plan.end.alpha * deviation, plan.end.sigma)
        # Sums of up to 100 terms; where they cancel, of terms that are 10^5 times as large as the result.
        assert growth(plan, [deviation]) == pytest.approx(carried(plan, deviation) / exact, rel=1e-9)
    total = math.hypot(*(carried(plan, deviation) for deviation in DEVIATIONS))
    assert growth(plan) == pytest.approx(total / exact_deviation(plan.end, DEVIATIONS), rel=1e-9)


def test_the_gain_is_that_of_normal_data() -> None:
    """E[x_0 | x_t] minimizes E (x_0 - k x_t)^2: k = cov(x_0, x_t) / var x_t, from samples."""
    level, x0, eps = Level(0.5, 0.8, 0.6, math.log(0.8 / 0.6)), normal(10**6), normal(10**6, seed=1)
    xt = level.alpha * 0.3 * x0 + level.sigma * eps
    # The standard error of a covariance of a million is 1e-3 of the product of the deviations.
    assert normal_gain(level, 0.09) == pytest.approx(
        ((0.3 * x0 * xt).mean() / (xt**2).mean()).item(), abs=2e-3
    )


def test_a_run_of_many_steps_does_not_grow() -> None:
    """An exact solver has growth 1: DDIM's error on normal data falls as 1 / steps."""
    for sde in (VPSDE(), EDM()):
        errors = [abs(growth(Plan.make(DDIM(), sde, steps)) - 1) for steps in (200, 400)]
        assert errors[0] < 0.02  # 0.012 measured
        assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)  # the next term of the error


def test_a_langevin_step_sized_by_norms_is_taken_at_the_expected_norm() -> None:
    """One large step from states that have nearly the exact deviation, in a batch whose mean norms are nearly
    the expected ones: v becomes v (1 - 2 snr^2)^2 + 4 snr^2 v."""
    snr, deviation = 0.7, 0.05
    plan = Plan.make(PredictorCorrector(DDIM(), snr=snr, measured=True), VPSDE(), 1, AtTimes([0.5, 0.45]))
    z = [normal(50000, 1, seed=i) for i in range(2)]
    denoise = lambda x, level: normal_gain(level, deviation**2) * x  # noqa: E731
    end = integrate(plan, denoise, plan.start.sigma * z[1], lambda i: z[i])
    exact = math.hypot(plan.end.alpha * deviation, plan.end.sigma)
    found = growth(plan, [deviation])
    # The standard errors of a deviation and of two mean norms, 0.3 % each.
    assert found == pytest.approx(end.std().item() / exact, rel=0.01)
    assert found == pytest.approx(math.hypot(1 - 2 * snr**2, 2 * snr), rel=0.01)


def test_growth_starts_at_alpha_0_and_ends_at_sigma_0() -> None:
    plan = Plan.make(DDIM(), RectifiedFlow(), 2, UniformTime(), to_clean=True)
    # From pure noise the estimate is 0; one step later, x = sigma z, and the last step is the denoiser.
    s = plan.levels[1]
    for deviation in (0.5, 2.0):
        expected = normal_gain(s, deviation**2) * s.sigma / deviation
        assert growth(plan, [deviation]) == pytest.approx(expected, rel=1e-12)
