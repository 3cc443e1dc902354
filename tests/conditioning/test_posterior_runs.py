"""Posteriors in runs of each solver, in any batch, with gradients and without."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from scoresde import (
    EDM,
    SOLVERS,
    VPSDE,
    Denoiser,
    ExactDenoiser,
    ExactPosterior,
    FullMixture,
    predict,
    sample,
)
from scoresde.conditioning.covariances import Gaussian, Isotropic, Jacobian, ScoreForm
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.operators import Known
from scoresde.conditioning.posterior import Posterior
from scoresde.denoisers.conditions import rows_of
from scoresde.plans import compiled as compiled_runs
from scoresde.plans.fingerprint import fingerprint
from scoresde.processes.level import column
from tests.problems import COUPLED, Net, calls, normal

FIRST = Known(torch.tensor([1, 0, 1]))
COVARIANCES = {
    "isotropic": Isotropic(),
    "gaussian": Gaussian(torch.diag(torch.tensor([0.5, 1.0, 2.0]))),
    "jacobian": Jacobian(2),
    "score form": ScoreForm(),
}
each_covariance = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES)
LOOSE = {"adaptive-em": "adaptive-em:rtol=1.0,atol=0.3"}


def network():
    return Denoiser(Net().eval(), VPSDE(), predict.data)


def shared(covariance, denoiser=None):
    known = Observed(FIRST, torch.tensor([[0.5, -1.0]]), 0.3)
    return Posterior(network() if denoiser is None else denoiser, known, covariance)


@dataclass(frozen=True)
class TwoModes:
    """The exact denoiser of numbers with two modes, -1 and 1, of deviation 1/2 each; each number alone."""

    sde: object = VPSDE()

    def __call__(self, x, level):
        alpha, sigma = (column(number, x) for number in (level.alpha, level.sigma))
        width = alpha**2 / 4 + sigma**2
        gain = alpha / 4 / width
        return gain * x + (1 - gain * alpha) * torch.tanh(alpha * x / width)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("covariance", [Isotropic(), Jacobian(2)], ids=["isotropic", "jacobian"])
def test_every_solver_samples_a_posterior(name, covariance):
    """Each sample with its own y; alone, in another order and in another batch to the last bit."""
    posterior, nfe = Posterior(TwoModes(), Observed(FIRST, None, 0.3), covariance), calls(name, 6)
    cond = (None, normal(5, 2).float())
    name = LOOSE.get(name, name)
    whole = sample(posterior, name, (5, 3), nfe=nfe, cond=cond)
    assert whole.isfinite().all()
    assert not torch.equal(sample(posterior, name, (5, 3), nfe=nfe, cond=rows_of(cond, [1] * 5)), whole)
    if name in COUPLED:
        return
    assert torch.equal(sample(posterior, name, (5, 3), nfe=nfe, cond=cond, batch_size=2), whole)
    ids = torch.tensor([4, 1])
    some = sample(posterior, name, (2, 3), nfe=nfe, cond=rows_of(cond, ids), ids=ids)
    assert torch.equal(some, whole[ids])


@each_covariance
def test_one_y_of_all_samples_is_the_same_y_of_each(covariance):
    y = torch.tensor([[0.5, -1.0]])
    each = Posterior(network(), Observed(FIRST, None, 0.3), covariance)
    for solver in ("dpmpp-2m-sde", "dpm-adaptive-12"):
        nfe = calls(solver, 8)
        expected = sample(shared(covariance), solver, (4, 3), nfe=nfe)
        assert torch.equal(sample(each, solver, (4, 3), nfe=nfe, cond=(None, y.expand(4, 2))), expected)


PRIOR = FullMixture.of(
    torch.zeros(1, 3, dtype=torch.float64),
    torch.tensor([[[1.0, 0.6, 0.2], [0.6, 1.0, -0.3], [0.2, -0.3, 0.5]]], dtype=torch.float64),
    torch.ones(1, dtype=torch.float64),
)


@pytest.mark.parametrize(
    "covariance", [Gaussian(PRIOR.moments()[1]), Jacobian(2)], ids=["gaussian", "jacobian"]
)
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-2m-sde"])
def test_a_run_draws_the_exact_posterior(covariance, solver):
    """The same samples as the exact denoiser of the posterior, where the covariance is exact."""
    y, sde = torch.tensor([[0.7, -0.2]], dtype=torch.float64), EDM()
    posterior = Posterior(ExactDenoiser(PRIOR, sde), Observed(FIRST, y, 0.1), covariance)
    exact = PRIOR.condition(FIRST, y[0], 0.1)
    x = sample(posterior, solver, (2000, 3), nfe=40, dtype=torch.float64)
    expected = sample(ExactDenoiser(exact, sde), solver, (2000, 3), nfe=40, dtype=torch.float64)
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-8)  # 40 estimates, each to 1e-10
    mean, spread = exact.moments()
    # Five deviations of 2,000 samples of variance below 1; the solvers are within half of it.
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.1)
    torch.testing.assert_close(torch.cov(x.mT), spread, rtol=0, atol=0.1)


def test_an_exact_denoiser_takes_a_y_of_each_sample():
    sde, y = EDM(), normal(5, 2)
    exact = ExactPosterior(PRIOR, sde, FIRST, 0.1)
    for solver in ("dpmpp-2m", "dpm-adaptive-12"):
        whole = sample(exact, solver, (5, 3), nfe=calls(solver, 10), cond=y, dtype=torch.float64)
        for row in (0, 3):
            alone = ExactDenoiser(PRIOR.condition(FIRST, y[row], 0.1), sde)
            ids = torch.tensor([row])
            x = sample(alone, solver, (1, 3), nfe=calls(solver, 10), ids=ids, dtype=torch.float64)
            torch.testing.assert_close(x[0], whole[row], rtol=1e-9, atol=1e-9)  # sums in another order


@each_covariance
def test_without_gradients_nothing_is_kept(covariance):
    inner, level = network(), VPSDE().level_at(0.5)
    posterior, x = shared(covariance, inner), normal(4, 3).float()
    given = x.clone()
    with torch.no_grad():
        found, misfit = posterior.with_misfit(x, level)
    assert not any(tensor.requires_grad for tensor in (found, misfit, x))
    assert torch.equal(x, given)
    assert inner.net.weight.grad is None
    x.fill_(torch.nan)  # as a run does: it writes later states into this memory
    assert found.isfinite().all()


@each_covariance
def test_with_gradients_it_is_differentiable(covariance):
    """By x and by the weights of the network, against differences."""
    inner, level = Denoiser(Net().double(), VPSDE(), predict.data), VPSDE().level_at(0.5)
    posterior = shared(covariance, inner)
    x = normal(2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: posterior(x, level), x)

    def of_weight(weight):
        with torch.no_grad():
            inner.net.weight.fill_(weight)
        return posterior(x.detach(), level).sum()

    (slope,) = torch.autograd.grad(of_weight(0.3), inner.net.weight)
    difference = (of_weight(0.3 + 1e-6) - of_weight(0.3 - 1e-6)) / 2e-6
    assert slope.item() == pytest.approx(difference.item(), rel=1e-6)


@each_covariance
def test_it_runs_in_inference_mode(covariance):
    posterior = shared(covariance)
    expected = sample(posterior, "ddim", (4, 3), nfe=5)
    with torch.inference_mode():
        assert torch.equal(sample(posterior, "ddim", (4, 3), nfe=5), expected)


@pytest.mark.slow
def test_a_compiled_run_needs_no_derivatives():
    torch._dynamo.reset()
    posterior, real = shared(COVARIANCES["gaussian"]), torch.compile
    expected = sample(posterior, "dpmpp-2m", (4, 3), nfe=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", lambda f, **options: real(f, backend="eager", **options))
        x = sample(posterior, "dpmpp-2m", (4, 3), nfe=5, compile=True)
    compiled_runs._kernel.cache_clear()
    compiled_runs._drawn.cache_clear()
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6)  # sums differ by roundings


def test_a_compiled_run_with_derivatives_is_refused():
    with pytest.raises(ValueError, match="compile is for denoisers without gradients"):
        sample(shared(Jacobian(2)), "ddim", (4, 3), nfe=5, compile=True)


class Writes(nn.Module):
    """A user's denoiser that writes to its input."""

    sde = VPSDE()

    def forward(self, x, level):
        return torch.nn.functional.silu(x, inplace=True)


@each_covariance
def test_a_denoiser_that_writes_to_its_input(covariance):
    class Plain(Writes):
        def forward(self, x, level):
            return torch.nn.functional.silu(x)

    expected = sample(shared(covariance, Plain()), "heun", (4, 3), nfe=6)
    assert torch.equal(sample(shared(covariance, Writes()), "heun", (4, 3), nfe=6), expected)


def test_a_plan_is_tuned_for_one_observation():
    """The observation and the covariance are settings, as the weights of the network are."""
    one = fingerprint(shared(Isotropic()))
    assert fingerprint(shared(Isotropic())) == one
    others = [
        Posterior(network(), Observed(FIRST, torch.tensor([[0.5, -1.1]]), 0.3)),
        Posterior(network(), Observed(FIRST, torch.tensor([[0.5, -1.0]]), 0.2)),
        Posterior(network(), Observed(Known(torch.tensor([1, 1, 0])), torch.tensor([[0.5, -1.0]]), 0.3)),
        shared(Jacobian(2)),
        network(),
    ]
    assert all(fingerprint(other) != one for other in others)
