"""Each prediction against its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import PREDICTIONS, edm
from scoresde.processes.continuous import VPSDE
from scoresde.processes.level import Level
from tests.denoisers.cases import CHOSEN, EPS, SIGMA_DATA, draw, every_prediction, every_sde, times, wide


def target(name, x0, eps, alpha, sigma):
    """What a network of this kind ought to return, by its definition in the paper."""
    if name == "edm":  # Karras et al., Table 1, at the noise level r = sigma / alpha of x_t / alpha
        r, y = sigma / alpha, x0 + sigma / alpha * eps
        skip = SIGMA_DATA**2 / (r**2 + SIGMA_DATA**2)
        return (x0 - skip * y) * (r**2 + SIGMA_DATA**2) ** 0.5 / (r * SIGMA_DATA)
    return {
        "noise": lambda: eps,
        "score": lambda: -eps / sigma,
        "data": lambda: x0,
        "v": lambda: alpha * eps - sigma * x0,
        "velocity": lambda: eps - x0,
    }[name]()


def test_every_prediction_of_the_registry_is_tested_here():
    assert set(PREDICTIONS) == set(CHOSEN)


@every_prediction
@every_sde
def test_the_exact_target_gives_back_the_data_and_costs_nothing(sde, name):
    x0, eps = draw((40, 3), 0), draw((40, 3), 1)
    t = times(sde, 40)
    level = sde.level(t)
    alpha, sigma = wide(level.alpha, x0), wide(level.sigma, x0)
    exact = target(name, x0, eps, alpha, sigma)
    denoiser = Denoiser(lambda x, t: exact, sde, CHOSEN[name])
    estimate = denoiser(alpha * x0 + sigma * eps, level)
    # x_0 is the difference of terms of the size sigma / alpha, each known to a few roundings.
    assert ((estimate - x0).abs() <= 32 * EPS * (1 + sigma / alpha)).all()
    # The loss rebuilds the target; 1 - skip alpha is known to EPS, and divided by out: sigma^2 / alpha for a
    # score prediction, whose target is 1 / sigma times as large, and sigma / alpha or more for the others.
    size = exact.square().mean(1) + (alpha / sigma).square()[:, 0]
    if name == "score":
        size = size + (alpha / sigma**2).square()[:, 0]
    assert (denoiser.loss(x0, t, eps) <= (16 * EPS) ** 2 * size).all()


@every_prediction
@every_sde
def test_the_loss_is_the_mean_squared_error_of_the_output(sde, name):
    x0, eps, off = draw((4, 3), 0), draw((4, 3), 1), draw((4, 3), 2)
    t = times(sde, 4)
    exact = target(name, x0, eps, wide(sde.alpha(t), x0), wide(sde.sigma(t), x0))
    loss = Denoiser(lambda x, t: exact + off, sde, CHOSEN[name]).loss(x0, t, eps)
    # The target is known to a few roundings of it and of 1 - skip alpha, which is divided by an out that is
    # at least sigma / alpha; off, which is added to it, has the size of 1.
    known = 1 + exact.abs().max() + (sde.alpha(t) / sde.sigma(t)).max()
    torch.testing.assert_close(loss, off.square().mean(1), rtol=0, atol=64 * EPS * known.item())


@every_prediction
@every_sde
def test_the_loss_shows_the_network_the_scaled_noisy_data(sde, name):
    x0, eps = draw((4, 3), 0), draw((4, 3), 1)
    t = times(sde, 4)
    shown = []

    def net(x, t):
        shown.append((x, t))
        return x

    denoiser = Denoiser(net, sde, CHOSEN[name])
    denoiser.loss(x0, t, eps)
    denoiser(sde.marginal_sample(x0, t, eps), sde.level(t))
    (in_loss, told_in_loss), (in_use, told_in_use) = shown
    torch.testing.assert_close(in_loss, in_use, rtol=1e-13, atol=1e-13)
    assert torch.equal(told_in_loss, told_in_use)


def as_network(name, denoise, sde, t):
    """The network of a kind that is this function ``denoise(x, t)`` at the time t, solved for by hand."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)

    def net(x, received):
        d = denoise(x, t)
        return {
            "noise": lambda: (x - alpha * d) / sigma,
            "score": lambda: (alpha * d - x) / sigma**2,
            "data": lambda: d,
            "v": lambda: (alpha * x - (alpha**2 + sigma**2) * d) / sigma,
            "velocity": lambda: (x - (alpha + sigma) * d) / sigma,
        }[name]()

    def net_of_edm(scaled, received):
        norm = sigma**2 + (alpha * SIGMA_DATA) ** 2
        x = scaled * norm.sqrt()
        return (denoise(x, t) - SIGMA_DATA**2 * alpha / norm * x) * norm.sqrt() / (sigma * SIGMA_DATA)

    return net_of_edm if name == "edm" else net


@every_sde
@settings(max_examples=20)
@given(place=st.floats(0, 1))
def test_one_function_in_every_parametrisation_gives_one_estimate(sde, place):
    t = torch.tensor(sde.t_min + place * (sde.t_max - sde.t_min), dtype=torch.float64)
    t = t.clamp(sde.t_min, sde.t_max)
    level = Level(*torch.stack(sde.level(t)).tolist())
    x = sde.marginal_sample(draw((5, 2), 0), t, draw((5, 2), 1))

    def denoise(x, t):
        return torch.tanh(x / (1 + sde.sigma(t))) + 0.1 * t

    expected = denoise(x, t)
    for name, prediction in CHOSEN.items():
        estimate = Denoiser(as_network(name, denoise, sde, t), sde, prediction)(x, level)
        # 1e-12 of the largest term that the estimate is made of, x / alpha.
        atol = 1e-12 * (1 + (x / level.alpha).abs().max().item())
        torch.testing.assert_close(estimate, expected, rtol=0, atol=atol)


# ------------------------------------------------------------------------------------- EDM's preconditioning


def decades(low, high):
    return st.floats(low, high).map(lambda x: 10.0**x)


@given(decades(-4, 3), decades(-1, 1))
def test_edm_is_table_1_of_karras_where_alpha_is_1(sigma, sigma_data):
    scale, skip, out, received = edm(sigma_data)(Level(0.3, 1.0, sigma, -math.log(sigma)))
    norm = sigma**2 + sigma_data**2
    # Rounding of the same formulas.
    assert scale == pytest.approx(1 / math.sqrt(norm), rel=1e-14)
    assert skip == pytest.approx(sigma_data**2 / norm, rel=1e-14)
    assert out == pytest.approx(sigma * sigma_data / math.sqrt(norm), rel=1e-14)
    assert received == pytest.approx(math.log(sigma) / 4, rel=1e-14, abs=1e-300)


@given(decades(-3, 0), decades(-3, 2))
def test_edm_of_x_is_edm_of_x_over_alpha(alpha, sigma):
    """The estimate depends on x / alpha and sigma / alpha alone, whatever the process."""
    lam = math.log(alpha) - math.log(sigma)
    denoiser = Denoiser(lambda x, t: torch.tanh(x) + torch.sin(t)[:, None], VPSDE(), edm(SIGMA_DATA))
    y = draw((4, 2), 0)
    here = denoiser(alpha * y, Level(0.5, alpha, sigma, lam))
    there = denoiser(y, Level(0.1, 1.0, sigma / alpha, lam))
    torch.testing.assert_close(here, there, rtol=1e-13, atol=1e-14)


def test_edm_scales_its_input_and_its_target_to_deviation_1():
    sde = VPSDE()
    t = times(sde, 6)
    x0, eps = SIGMA_DATA * draw((6, 200_000), 0), draw((6, 200_000), 1)
    seen = {}

    def net(x, t):
        seen["x"] = x
        return torch.zeros_like(x)

    loss = Denoiser(net, sde, edm(SIGMA_DATA)).loss(x0, t, eps)
    # A variance over 200,000 draws has the standard error sqrt(2 / 200,000) = 0.0032; 5 of these.
    assert (seen["x"].var(1) - 1).abs().max() < 0.016
    assert (loss - 1).abs().max() < 0.016


def test_edm_by_default_is_for_a_deviation_of_one_half():
    level = Level(1.0, 0.6, 0.8, math.log(0.6 / 0.8))
    assert edm()(level) == edm(0.5)(level) != edm(0.4)(level)
    # Of Table 1 at sigma / alpha = 4/3: skip = 0.25 / (0.25 + 16/9), and alpha = 0.6 divides it.
    assert edm()(level).skip == pytest.approx(0.25 / (0.25 + 16 / 9) / 0.6, rel=1e-14)


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_edm_is_finite_where_there_is_no_data(kind):
    level = Level(kind(1.0), kind(0.0), kind(2.0), kind(-math.inf))
    scale, skip, out, received = edm(SIGMA_DATA)(level)
    # E[x_0 | noise] is what the network says, at the data's deviation.
    assert [float(number) for number in (scale, skip, out)] == pytest.approx([0.5, 0.0, SIGMA_DATA])
    assert received == math.inf


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_edm_refuses_a_deviation_that_cannot_be(bad):
    with pytest.raises(ValueError, match="sigma_data must be positive and finite, got"):
        edm(bad)
