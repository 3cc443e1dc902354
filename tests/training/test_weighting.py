"""Weightings: each weighs the error of its paper."""

import math

import numpy as np
import pytest
import torch
from training_runs import draw, every_sde, gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import data, edm, noise, score, v, velocity
from scoresde.processes.continuous import VPSDE, RectifiedFlow
from scoresde.training import weighting
from scoresde.training.time_sampling import LogNormal, Uniform


def levels(sde, n=9):
    t_max = min(sde.t_max, 0.99) if isinstance(sde, RectifiedFlow) else sde.t_max
    return torch.linspace(sde.t_min, t_max, n, dtype=torch.float64)


def wide(number):
    return number[:, None]


@pytest.mark.parametrize(
    "prediction",
    [noise, score, data, v, velocity, edm(0.65)],
    ids=["noise", "score", "data", "v", "velocity", "edm"],
)
@every_sde
def test_each_weighting_weighs_the_error_it_says(sde, prediction):
    """weight * loss, sample by sample, is the weight of the paper on the error of x_0 or of the score."""
    t = levels(sde)
    level = sde.level(t)
    x0, eps = draw((9, 3), 0), draw((9, 3), 1)
    denoiser = Denoiser(lambda x, t: torch.tanh(x) + 0.3, sde, prediction)
    loss = denoiser.loss(x0, t, eps)
    x = sde.marginal_sample(x0, t, eps)
    estimate = denoiser(x, level)
    of_x0 = (estimate - x0).square().mean(1)
    of_score = (
        ((wide(level.alpha) * estimate - x) / wide(level.sigma) ** 2 + eps / wide(level.sigma))
        .square()
        .mean(1)
    )
    r = level.sigma / level.alpha
    expected = {
        weighting.Plain(): loss,
        weighting.Likelihood(): sde.diffusion2(t) * of_score,
        weighting.MinSNR(5.0): torch.minimum(1 / r**2, torch.full_like(r, 5.0)) * of_x0,
        weighting.EDMWeighting(0.5): (r**2 + 0.25) / (0.5 * r) ** 2 * of_x0,
    }
    for weigh, value in expected.items():
        # An estimate is known to roundings of x / alpha, up to 1e3 of 1e-16, and of that of x_0 / sigma.
        torch.testing.assert_close(weigh(denoiser, level) * loss, value, rtol=1e-8, atol=0)


@every_sde
def test_the_edm_weighting_is_1_for_a_network_preconditioned_alike(sde):
    level = sde.level(levels(sde))
    weight = weighting.EDMWeighting(0.65)(Denoiser(lambda x, t: x, sde, edm(0.65)), level)
    torch.testing.assert_close(weight, torch.ones_like(weight), rtol=1e-13, atol=0)


def test_the_loss_of_a_step_is_the_mean_of_weight_factor_and_error():
    x, sde = gaussian(64), VPSDE()

    def first_loss(weight, factor):
        def time_sampling(sde, u):
            return Uniform()(sde, u)[0], factor * torch.ones_like(u)

        def weigh(denoiser, level):
            return weight * torch.ones_like(level.t)

        _, (progress,) = run(mlp(), sde, noise, x, steps=1, time_sampling=time_sampling, weighting=weigh)
        return progress.loss

    once = first_loss(1.0, 1.0)
    # Powers of two: exact in any precision.
    assert first_loss(2.0, 1.0) == 2 * once
    assert first_loss(1.0, 4.0) == 4 * once
    assert first_loss(2.0, 4.0) == 8 * once


def test_numbers_of_any_type_are_kept_as_floats():
    made = [weighting.MinSNR(5), weighting.EDMWeighting(np.float32(0.5)), LogNormal(-1, 2)]
    assert list(map(repr, made)) == [
        "MinSNR(gamma=5.0)",
        "EDMWeighting(sigma_data=0.5)",
        "LogNormal(mean=-1.0, std=2.0)",
    ]


@pytest.mark.parametrize(
    ("make", "value", "named"),
    [
        (weighting.EDMWeighting, 0.0, "sigma_data must be positive and finite, got 0.0"),
        (weighting.EDMWeighting, math.nan, "sigma_data must be positive and finite, got nan"),
        (weighting.EDMWeighting, math.inf, "sigma_data must be positive and finite, got inf"),
        (weighting.MinSNR, 0.0, "gamma must be positive, got 0.0"),
        (weighting.MinSNR, math.nan, "gamma must be positive, got nan"),
    ],
)
def test_weightings_that_cannot_be_are_refused(make, value, named):
    with pytest.raises(ValueError, match=named):
        make(value)
