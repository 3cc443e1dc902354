"""Marginals, priors and drifts of the processes against closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import solve_ivp
from torch.distributions import Normal

from scoresde.processes.continuous import VPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from tests.processes.families import EPS32, close, every_default, inside, slope

# A batch as large as another axis hides a transposition from the shapes, not from the values.
SHAPES = [(3,), (3, 3), (3, 3, 4, 4), (5, 5, 4, 3, 2)]


def draw_like(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_marginal_is_the_normal_of_alpha_and_sigma_sample_by_sample(sde, shape):
    x0, eps = draw_like(shape, 0), draw_like(shape, 1)
    t = torch.linspace(sde.t_min, sde.t_max, shape[0], dtype=torch.float64)
    mean, std = sde.marginal(x0, t)
    x = sde.marginal_sample(x0, t, eps)
    density = sde.marginal_log_density(x, x0, t)
    assert density.shape == shape[:1]
    for i in range(shape[0]):
        alpha, sigma = sde.alpha(t[i]), sde.sigma(t[i])
        close(mean[i], alpha * x0[i], rtol=1e-14)
        close(std.expand(shape)[i], sigma.expand(shape[1:]), rtol=1e-14)
        close(x[i], alpha * x0[i] + sigma * eps[i], rtol=1e-14, atol=1e-14)
        # (x - mean) / std gets eps back but for a rounding of x, 1 / sigma times as large in it.
        expected = Normal(alpha * x0[i], sigma).log_prob(x[i]).sum()
        close(density[i], expected, rtol=1e-12, atol=1e-13 / sigma.item())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_one_time_for_all_is_that_time_for_each(sde, shape):
    x0, eps = draw_like(shape, 0), draw_like(shape, 1)
    t = torch.tensor((sde.t_min + sde.t_max) / 2, dtype=torch.float64)
    each = t.expand(shape[0])
    close(sde.marginal_sample(x0, t, eps), sde.marginal_sample(x0, each, eps), rtol=0)
    close(sde.marginal_log_density(eps, x0, t), sde.marginal_log_density(eps, x0, each), rtol=1e-14)
    close(sde.ode_drift(x0, t, eps), sde.ode_drift(x0, each, eps), rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_prior_is_the_normal_of_the_last_sigma(sde, shape):
    eps = draw_like(shape)
    last = torch.tensor(sde.t_max, dtype=torch.float64)
    x = sde.prior_sample(eps)
    close(x, sde.sigma(last) * eps, rtol=1e-15)
    expected = Normal(0.0, sde.sigma(last)).log_prob(x).reshape(shape[0], -1).sum(1)
    close(sde.prior_log_density(x), expected, rtol=1e-13)
    single = sde.prior_sample(eps.float())
    assert single.dtype == torch.float32
    close(single.double(), x, rtol=4 * EPS32)


@every_default
def test_results_have_the_type_of_the_samples_not_of_the_times(sde):
    x = draw_like((3, 2), dtype=torch.float32)
    for t in (torch.full((3,), 0.5, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)):
        results = [*sde.marginal(x, t), sde.marginal_sample(x, t, x), sde.marginal_log_density(x, x, t)]
        results += [sde.ode_drift(x, t, x), sde.reverse_drift(x, t, x)]
        assert {result.dtype for result in results} == {torch.float32}


@every_default
def test_times_outside_the_process_are_refused(sde):
    x = draw_like((2, 3))
    for bad in (sde.t_min * 0.99 - 1e-6, sde.t_max * 1.01, math.nan):
        for t in (torch.tensor([sde.t_max, bad]), torch.tensor(bad)):
            for call in (
                lambda t: sde.marginal(x, t),
                lambda t: sde.marginal_sample(x, t, x),
                lambda t: sde.marginal_log_density(x, x, t),
                lambda t: sde.reverse_drift(x, t, x),
                lambda t: sde.ode_drift(x, t, x),
            ):
                with pytest.raises(ValueError, match=r"^t must be in \["):
                    call(t)


@every_default
def test_the_ends_are_inside_in_float32_too(sde):
    x = torch.zeros(2, 3)
    mean, std = sde.marginal(x, torch.tensor([sde.t_min, sde.t_max]))
    assert torch.isfinite(std).all()
    assert torch.equal(mean, x)


@pytest.mark.parametrize(
    "t", [torch.full((2,), 0.5), torch.full((3, 1), 0.5), torch.full((1,), 0.5)], ids=str
)
def test_times_that_are_not_one_for_every_sample_are_refused(t):
    with pytest.raises(ValueError, match="t must be one number or 3"):
        VPSDE().marginal(torch.zeros(3, 2), t)


@every_default
def test_no_samples_have_no_densities(sde):
    x, t = torch.zeros(0, 3), torch.zeros(0)
    assert sde.marginal_log_density(x, x, t).shape == (0,)
    assert sde.prior_log_density(x).shape == (0,)


# ------------------------------------------------------------------------------------- reverse time


@every_default
def test_drifts_are_the_formulas_of_song(sde):
    x, score = draw_like((4, 2), 0), draw_like((4, 2), 1)
    t = torch.linspace(sde.t_min, sde.t_max, 4, dtype=torch.float64)
    f, g2 = sde.drift(t)[:, None], sde.diffusion2(t)[:, None]
    close(sde.ode_drift(x, t, score), f * x - g2 * score / 2, rtol=1e-14, atol=1e-14)
    close(sde.reverse_drift(x, t, score), f * x - g2 * score, rtol=1e-14, atol=1e-14)
    close(sde.reverse_drift(x, t, score, eta=0.5), f * x - 0.625 * g2 * score, rtol=1e-14, atol=1e-14)


def variance(sde, t, s):
    """Of x_t, for data N(0, s^2)."""
    return (s * sde.alpha(t)) ** 2 + sde.sigma(t) ** 2


@every_default
def test_the_ode_moves_normal_data_along_its_marginals(sde):
    """With the exact score of N(0, s^2) data the ODE takes sqrt(alpha^2 s^2 + sigma^2) along."""
    s = 0.7

    def rhs(t, x):
        t = torch.tensor(t, dtype=torch.float64)
        x = torch.from_numpy(x)[None]
        return sde.ode_drift(x, t, -x / variance(sde, t, s))[0].numpy()

    ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
    # Where coefficients jump, at the steps of a discrete process, the integration begins anew, a hair inside
    # each step (whose 1e-12 of it moves the result by less than 1e-10).
    steps = sde.steps if isinstance(sde, DiscreteVPSDE) else 1
    inner = [] if steps == 1 else [i / steps for i in range(steps - 1, 1, -1)]
    marks = [sde.t_max, *inner, sde.t_min]
    first, last = variance(sde, ends, s).sqrt().tolist()
    x = torch.tensor([first], dtype=torch.float64).numpy()
    for begin, end in pairwise(marks):
        hair = 1e-12 * (begin - end) if inner else 0.0
        solution = solve_ivp(rhs, (begin - hair, end + hair), x, method="DOP853", rtol=1e-11, atol=1e-13)
        assert solution.success
        x = solution.y[:, -1]
    # The solver's 1e-11 a step, added up over the few hundred steps.
    assert x[0] == pytest.approx(last, rel=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
@every_default
def test_the_reverse_sde_of_any_eta_keeps_the_marginals_of_normal_data(sde, eta):
    """Fokker-Planck: drift a x and noise eta g keep the variance P where dP / dt = 2 a P - eta^2 g^2."""
    t = inside(sde)[:, None]
    p = variance(sde, t, 0.7)
    x = torch.ones(len(t), 1, dtype=torch.float64)
    a = sde.reverse_drift(x, t[:, 0], -x / p, eta)
    g2 = sde.diffusion2(t)
    change = slope(lambda t: variance(sde, t, 0.7), t)
    terms = (2 * sde.drift(t) * p).abs() + (1 + 2 * eta**2) * g2
    assert ((2 * a * p - eta**2 * g2 - change).abs() <= 1e-13 * terms).all()
