"""The methods of the literature, each against its own formula in dense matrices."""

import pytest
import torch

from scoresde import VPSDE, ExactDenoiser, sample
from scoresde.conditioning.linear import matrix_of
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.peers import ddnm, diffpir, dps, mmps, pigdm
from tests.conditioning.normal_pictures import (
    COVARIANCE,
    DENSE,
    MEAN,
    PRIOR,
    SHAPE,
    D,
    Pictures,
    exact_posterior,
    noisy,
)
from tests.problems import normal

SDE, TAU = VPSDE(), 0.3
INNER = Pictures(ExactDenoiser(PRIOR, SDE))
KNOWN = Observed(DENSE, normal(1, 10), TAU)
A = matrix_of(DENSE, SHAPE, MEAN)
UNIT, SEEN = torch.eye(D, dtype=torch.float64), torch.eye(10, dtype=torch.float64)


def corrected(x, level, left, system):
    """D + L A^T S^-1 (y - A D)."""
    estimate = INNER(x, level).flatten(1)
    residual = KNOWN.y - estimate @ A.mT
    return (estimate + torch.linalg.solve(system, residual.mT).mT @ A @ left).reshape(x.shape)


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_each_is_its_formula(t):
    level = SDE.level_at(t)
    x, _ = noisy(PRIOR, level)
    s2 = (level.sigma / level.alpha) ** 2
    given = torch.linalg.inv(torch.linalg.inv(COVARIANCE) + UNIT / s2)
    noise = TAU**2 * SEEN
    expected = {
        ddnm: corrected(x, level, UNIT, A @ A.mT),
        diffpir: corrected(x, level, s2 / 8 * UNIT, s2 / 8 * A @ A.mT + noise),
        pigdm: corrected(x, level, given, s2 / (1 + s2) * A @ A.mT + noise),
        dps: corrected(x, level, given, noise),
    }
    for method, value in expected.items():
        # The conditions of the systems, at most 1e3.
        torch.testing.assert_close(method(INNER, KNOWN)(x, level), value, rtol=1e-9, atol=1e-9)


def test_dps_adds_the_gradient_of_the_likelihood_of_the_estimate():
    level = SDE.level_at(0.4)
    x, _ = noisy(PRIOR, level)
    x.requires_grad_()
    estimate = INNER(x, level)
    likelihood = -(KNOWN.y - DENSE.forward(estimate)).square().sum() / (2 * TAU**2)
    (score,) = torch.autograd.grad(likelihood, x)
    expected = estimate.detach() + level.sigma**2 / level.alpha * score
    torch.testing.assert_close(dps(INNER, KNOWN)(x.detach(), level), expected, rtol=1e-10, atol=1e-10)


def test_mmps_comes_nearer_with_each_iteration():
    level = SDE.level_at(0.2)
    x, _ = noisy(PRIOR, level)
    exact = exact_posterior(PRIOR, SDE, DENSE, KNOWN.y, TAU)(x, level)
    errors = [(mmps(INNER, KNOWN, k)(x, level) - exact).norm().item() for k in (1, 3, 6, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9 < errors[0]


def test_ddnm_gives_samples_that_agree_with_y():
    x = sample(ddnm(INNER, KNOWN), "dpmpp-2m", (3, *SHAPE), nfe=10, dtype=torch.float64, to_clean=True)
    # The last step of a second-order multistep table goes to the estimate itself.
    torch.testing.assert_close(DENSE.forward(x), KNOWN.y.expand(3, -1), rtol=0, atol=1e-10)
