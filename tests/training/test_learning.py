"""Training learns the exact denoiser of data whose denoiser is known."""

import math

import pytest
import torch
from torch import nn
from training_runs import MEAN, STD, draw, even, gaussian, mlp, run

from scoresde.denoisers.predictions import data, edm, noise, score, v, velocity
from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.training import weighting
from scoresde.training.time_sampling import Importance, LogNormal, Uniform


def exact_denoiser(x, level):
    """E[x_0 | x_t] of this data: regression to the mean, in every direction."""
    gain = level.alpha * STD**2 / ((level.alpha * STD) ** 2 + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


@pytest.mark.parametrize(
    ("sde", "prediction", "weigh", "time_sampling"),
    [
        (VPSDE(), noise, weighting.Plain(), Uniform()),
        (VPSDE(), v, weighting.EDMWeighting(0.65), Uniform()),
        (SubVPSDE(t_min=0.02), noise, weighting.Plain(), Importance()),
        (VPSDE(t_min=0.02), score, weighting.Likelihood(), Importance()),
        (VESDE(0.05, 5.0), edm(0.65), weighting.Plain(), LogNormal()),
        (EDM(0.05, 10.0), edm(0.65), weighting.EDMWeighting(0.65), LogNormal(-0.5, 1.0)),
        (Cosine(), data, weighting.MinSNR(), Uniform()),
        (RectifiedFlow(), velocity, weighting.Plain(), Uniform()),
    ],
    ids=["vp noise", "vp v", "sub-vp noise", "vp score", "ve edm", "edm edm", "cosine data", "flow velocity"],
)
def test_training_learns_the_exact_denoiser_of_normal_data(sde, prediction, weigh, time_sampling):
    options = {"steps": 250, "batch_size": 256, "lr": 8e-3, "warmup": 20, "ema": 0.98}
    net = mlp(width=32)
    state, _ = run(
        net, sde, prediction, gaussian(4096), time_sampling=time_sampling, weighting=weigh, **options
    )
    learned = state.averaged
    # Where the estimate is neither the data nor its mean: sigma / alpha within a factor 3 of the deviation.
    part = sde.clip(-math.log(2.0), -math.log(0.2))
    t = torch.linspace(part.t_min, part.t_max, 2000, dtype=torch.float64)
    x0, eps = (draw((2000, 2), seed, torch.float32) for seed in (1, 2))
    x = sde.marginal_sample(MEAN + STD * x0, t, eps)
    level = sde.level(t[:, None])
    with torch.no_grad():
        error = (learned(x, level) - exact_denoiser(x, level)).square().mean().sqrt().item()
    # The estimates themselves vary by 0.5; a sign or a factor 2 anywhere moves them by 0.1 or more, while a
    # network of this size trained for so long comes within 0.02 to 0.045 of them.
    assert error < 0.06


class Affine(nn.Module):
    """x -> a x + b, whose best a and b at one level are known."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        return self.a * x + self.b


@pytest.mark.parametrize("prediction", [noise, data, v], ids=["noise", "data", "v"])
def test_training_at_one_level_finds_the_regression_line(prediction):
    sde = VPSDE(t_min=0.3, t_max=0.3 + 1e-9)
    m, s = 0.4, 0.5
    x = (m + s * torch.special.ndtri(even(4096)))[:, None].float()
    options = {"steps": 300, "batch_size": 1024, "lr": 0.05, "clip": 100.0}
    state, _ = run(Affine(), sde, prediction, x, time_sampling=Uniform(), **options)
    alpha, sigma = sde.alpha(torch.tensor(0.3)).item(), sde.sigma(torch.tensor(0.3)).item()
    # Jointly normal: E[target | x_t] = E target + cov(target, x_t) / var(x_t) (x_t - alpha m).
    mean, cov = {
        noise: (0.0, sigma),
        data: (m, alpha * s**2),
        v: (-sigma * m, alpha * sigma * (1 - s**2)),
    }[prediction]
    a = cov / ((alpha * s) ** 2 + sigma**2)
    net = state.average.module
    # 100,000 draws in the last steps, at a falling learning rate: a standard error of 3e-3 or so.
    assert net.a.item() == pytest.approx(a, abs=0.01)
    assert net.b.item() == pytest.approx(mean - a * alpha * m, abs=0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_loss_falls_and_the_weights_stay_in_float32(precision):
    net = mlp(width=32)
    options = {"steps": 150, "batch_size": 64, "lr": 5e-3, "precision": precision}
    state, progress = run(net, VPSDE(), noise, gaussian(512), time_sampling=Uniform(), **options)
    first, last = (sum(p.loss for p in part) / 10 for part in (progress[:10], progress[-10:]))
    # 0 costs 1. The exact estimate of this data's noise costs E (alpha s)^2 / ((alpha s)^2 + sigma^2) = 0.08.
    assert last < 0.25 < 0.7 < first
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert progress[-1].skipped == state.skipped == 0


def test_bfloat16_is_the_precision_inside_the_network():
    inside = []

    class Spy(nn.Linear):
        def forward(self, x, t):
            inside.append(super().forward(x).dtype)
            return super().forward(x)

    for precision in ("float32", "bfloat16"):
        run(Spy(2, 2), EDM(), edm(), gaussian(64), steps=1, precision=precision)
    assert inside == [torch.float32, torch.bfloat16]
