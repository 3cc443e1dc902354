"""The flow of normal data is exact for normal data, and a start for any solver."""

import math

import pytest
import torch

from scoresde import (
    EDM,
    VPSDE,
    ExactDenoiser,
    Karras,
    Mixture,
    RectifiedFlow,
    UniformLambda,
    integrate,
    prepare,
    sample,
)
from scoresde.denoisers import GaussianFlow
from scoresde.denoisers.gaussian import gaussian_factor
from scoresde.spacings import Clipped

SDES = [EDM(0.02, 20.0), VPSDE(), RectifiedFlow(t_max=0.99)]


class Normal:
    """The exact denoiser of normal data: alpha C (alpha^2 C + sigma^2)^-1 (x - alpha m) + m."""

    def __init__(self, sde, mean, covariance):
        self.sde, self.mean, self.covariance = sde, mean, covariance

    def __call__(self, x, level, cond=None):
        eye = torch.eye(len(self.mean), dtype=torch.float64)
        gain = level.alpha * torch.linalg.solve(
            level.alpha**2 * self.covariance + level.sigma**2 * eye, self.covariance
        )
        return (x - level.alpha * self.mean) @ gain + self.mean


def data(n=400):
    generator = torch.Generator().manual_seed(0)
    mix = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.5, -0.2], [0.1, 0.0, 0.2]], dtype=torch.float64)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64) @ mix + torch.tensor([0.5, -1.0, 0.2])


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_it_is_exact_for_normal_data(sde):
    x = data()
    flow = GaussianFlow.by_component(x)
    plan = prepare("dpmpp-3m", sde, 400, UniformLambda())
    states = [plan.start.sigma * torch.randn(5, 3, dtype=torch.float64)]
    end = integrate(plan, Normal(sde, x.mean(0), torch.cov(x.T, correction=0)), states[0])
    # 400 steps of order 3; measured 2e-6 and less.
    torch.testing.assert_close(flow(states[0], plan.start, plan.end), end, rtol=1e-5, atol=1e-5)


def test_there_and_back_is_the_same_state():
    x, sde = torch.randn(6, 2, 3, 4, dtype=torch.float64), VPSDE()
    plan = prepare("ddim", sde, 2)
    for make in (GaussianFlow.scalar, GaussianFlow.by_channel, GaussianFlow.by_component):
        flow = make(
            0.3 + torch.randn(50, 2, 3, 4, dtype=torch.float64) * torch.tensor([0.5, 2.0])[:, None, None]
        )
        there = flow(x, plan.start, plan.levels[1])
        torch.testing.assert_close(flow(there, plan.levels[1], plan.start), x, rtol=1e-9, atol=1e-9)


def test_a_scalar_covariance_and_no_mean_are_the_free_step():
    sde = EDM()
    plan = prepare("ddim", sde, 4)
    flow = GaussianFlow(torch.zeros(3), torch.tensor(0.3))
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = gaussian_factor(plan.start, plan.levels[1], 0.3) * x
    torch.testing.assert_close(
        flow(x, plan.start, plan.levels[1]), expected, rtol=1e-6, atol=0
    )  # 0.3 in float32


def test_channels_have_separate_variances():
    x = torch.randn(500, 2, 4, 4, dtype=torch.float64) * torch.tensor([0.5, 2.0])[:, None, None]
    flow = GaussianFlow.by_channel(x)
    assert flow.variances.shape == (2, 1, 1)
    assert flow.variances.flatten().tolist() == pytest.approx([0.25, 4.0], rel=0.05)
    assert GaussianFlow.scalar(x).variances.item() == pytest.approx(flow.variances.mean().item())


def test_few_steps_after_it_are_better_than_from_noise():
    """A mixture far from 0: a run that begins later with the flow's state is nearer its exact end."""
    sde = EDM(0.02, 80.0)
    means = torch.tensor([[2.0, 1.5], [2.6, 1.0], [1.7, 2.2]], dtype=torch.float64)
    mixture = Mixture(means, torch.full((3,), 0.2).double(), torch.full((3,), 1 / 3).double())
    exact = ExactDenoiser(mixture, sde)
    start = prepare("ddim", sde, 1).start
    noise = start.sigma * torch.randn(
        2000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    end = integrate(prepare("dpmpp-3m", sde, 300, UniformLambda()), exact, noise)
    whole = prepare("dpmpp-2m", sde, 8, Karras())
    late = prepare("dpmpp-2m", sde, 8, Clipped(Karras(), -math.log(5)))
    flow = GaussianFlow(mixture.moments()[0], *torch.linalg.eigh(mixture.moments()[1]))

    def error(plan, x):
        return (sample(exact, plan, (2000, 2), x=x, dtype=torch.float64) - end).square().mean().sqrt().item()

    ours = error(late, flow(noise, start, late.start))
    assert ours < 0.5 * error(whole, noise)  # measured 0.022, 0.053 and 0.082
    assert ours < 0.5 * error(late, noise * late.start.sigma / start.sigma)


def test_bad_moments_are_refused():
    mean = torch.zeros(2, 3)
    for variances in (torch.tensor(0.0), torch.tensor(math.inf), torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="finite and positive"):
            GaussianFlow(mean, variances)
    with pytest.raises(ValueError, match=r"samples of shape \(2, 3\), got \(4,\)"):
        GaussianFlow(mean, torch.ones(4))
    with pytest.raises(ValueError, match=r"must be \(6,\) and \(6, 6\), got \(6,\) and \(3, 3\)"):
        GaussianFlow(mean, torch.ones(6), torch.eye(3))
