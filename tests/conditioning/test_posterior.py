"""D_y against E[x_0 | x_t, y] in closed form, at each level, to roundings."""

import pytest
import torch

from scoresde import EDM, VPSDE, Denoiser, ExactDenoiser, Level, predict
from scoresde.conditioning.covariances import Gaussian, Isotropic, Jacobian, of_prior
from scoresde.conditioning.linear import matrix_of
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.operators import Known, Pool
from scoresde.conditioning.posterior import Posterior
from tests.conditioning.normal_pictures import (
    COVARIANCE,
    DENSE,
    LINEAR,
    MEAN,
    OPERATORS,
    PRIOR,
    SHAPE,
    D,
    Pictures,
    exact_posterior,
    noisy,
    normal_prior,
    twenty_levels,
)
from tests.problems import Net, normal

each_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
each_tau = pytest.mark.parametrize("tau", [0.0, 0.05, 0.5])
GAUSSIAN = Gaussian(COVARIANCE, SHAPE)
GAUSSIAN_OR_SOLVED = pytest.mark.parametrize("solved", [False, True], ids=["gaussian", "jacobian"])
COVARIANCES = {"isotropic": Isotropic(), "gaussian": GAUSSIAN, "jacobian": Jacobian(2)}
each_covariance = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES)


def observed(operator, tau, prior=PRIOR):
    x0 = prior.sample(1, seed=9).reshape(1, *SHAPE)
    y = operator.forward(x0)
    return Observed(operator, y + tau * normal(*y.shape, seed=8), tau)


def exact_covariance(operator, solved):
    """One that is exact on the prior; with roundings, CG needs more iterations than there are directions."""
    return Jacobian(5 * observed(operator, 0.1).y.numel() // 2) if solved else GAUSSIAN


def error(found, expected):
    return ((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max().item()


@each_operator
@each_tau
@pytest.mark.parametrize(("solved", "sde"), [(False, EDM()), (False, VPSDE()), (True, VPSDE())])
def test_on_a_normal_prior_it_is_the_exact_posterior(operator, tau, solved, sde):
    known, covariance = observed(operator, tau), exact_covariance(operator, solved)
    posterior = Posterior(Pictures(ExactDenoiser(PRIOR, sde)), known, covariance)
    exact = exact_posterior(PRIOR, sde, operator, known.y, tau)
    for level in twenty_levels(sde):
        x, _ = noisy(PRIOR, level)
        with torch.no_grad():
            assert error(posterior(x, level), exact(x, level)) < 1e-9


@each_operator
@each_tau
@pytest.mark.parametrize("variance", [0.3, 1.0, 4.0])
def test_isotropic_is_exact_on_a_prior_of_one_variance(operator, tau, variance):
    prior, sde = normal_prior(variance * torch.eye(D, dtype=torch.float64)), EDM()
    known = observed(operator, tau, prior)
    posterior = Posterior(Pictures(ExactDenoiser(prior, sde)), known, Isotropic(of_prior(variance)))
    dense, y = matrix_of(operator, SHAPE, MEAN), known.y.flatten()
    for level in twenty_levels(sde):
        x, _ = noisy(prior, level)
        found = posterior(x, level).flatten(1)
        if tau == 0:  # the point of A x_0 = y that is nearest to E[x_0 | x_t], for this has equal errors
            estimate = prior.denoise(x.flatten(1), level)
            exact = estimate + (y - estimate @ dense.mT) @ torch.linalg.pinv(dense).mT
        else:  # the precisions of the prior, of x_t and of y add
            unit = torch.eye(D, dtype=torch.float64)
            precision = unit * (1 / variance + (level.alpha / level.sigma) ** 2) + dense.mT @ dense / tau**2
            pull = MEAN / variance + level.alpha / level.sigma**2 * x.flatten(1) + y @ dense / tau**2
            exact = torch.linalg.solve(precision, pull.mT).mT
        assert error(found, exact) < 1e-12


def test_the_default_covariance_is_that_of_data_of_variance_1():
    inner, known, level = Pictures(ExactDenoiser(PRIOR, EDM())), observed(Pool(2), 0.1), EDM().level_at(2.0)
    x, _ = noisy(PRIOR, level)
    expected = Posterior(inner, known, Isotropic(of_prior(1.0)))(x, level)
    assert torch.equal(Posterior(inner, known)(x, level), expected)


def test_an_operator_of_functions_is_as_good_as_its_matrix():
    sde = EDM()
    known = observed(LINEAR, 0.05)
    exact = exact_posterior(PRIOR, sde, DENSE, known.y, 0.05)
    for covariance in (GAUSSIAN, exact_covariance(LINEAR, True)):
        posterior = Posterior(Pictures(ExactDenoiser(PRIOR, sde)), known, covariance)
        for level in twenty_levels(sde)[::4]:
            x, _ = noisy(PRIOR, level)
            assert error(posterior(x, level), exact(x, level)) < 1e-9


@each_operator
@each_covariance
def test_without_information_it_is_the_denoiser(operator, covariance):
    inner, level = Pictures(ExactDenoiser(PRIOR, EDM())), EDM().level_at(1.3)
    x, _ = noisy(PRIOR, level)
    known = observed(operator, 0.1)
    loud = Posterior(inner, Observed(operator, known.y, 1e9), covariance)
    assert error(loud(x, level), inner(x, level)) < 1e-12


@each_covariance
def test_a_mask_of_zeros_changes_no_bit(covariance):
    inner, level = Pictures(ExactDenoiser(PRIOR, EDM())), EDM().level_at(1.3)
    x, _ = noisy(PRIOR, level)
    for tau in (0.0, 0.1):
        nothing = Observed(Known(torch.zeros(4, 4)), torch.zeros(1, 2, 0, dtype=torch.float64), tau)
        assert torch.equal(Posterior(inner, nothing, covariance)(x, level), inner(x, level))


@each_operator
@GAUSSIAN_OR_SOLVED
def test_the_misfit_is_that_of_y_given_x_t(operator, solved):
    """r^T S^-1 r, S = A V A^T + tau^2 I with V = (C^-1 + I / s^2)^-1."""
    known, sde = observed(operator, 0.05), VPSDE()
    inner = Pictures(ExactDenoiser(PRIOR, sde))
    dense = matrix_of(operator, SHAPE, MEAN)
    for level in twenty_levels(sde)[::3]:
        x, _ = noisy(PRIOR, level)
        given = torch.linalg.inv(
            torch.linalg.inv(COVARIANCE) + torch.eye(D).double() * (level.alpha / level.sigma) ** 2
        )
        system = dense @ given @ dense.mT + 0.05**2 * torch.eye(len(dense)).double()
        residual = (known.y - operator.forward(inner(x, level))).flatten(1)
        expected = (residual * torch.linalg.solve(system, residual.mT).mT).sum(1)
        misfit = Posterior(inner, known, exact_covariance(operator, solved)).with_misfit(x, level)[1]
        torch.testing.assert_close(misfit, expected, rtol=1e-9, atol=0)  # the conditions of C and S


@GAUSSIAN_OR_SOLVED
def test_the_posterior_of_a_posterior_has_both_observations(solved):
    """The inner one is differentiated as a whole; its data have the covariance of the first posterior."""
    sde = EDM()
    first, second = observed(Pool(2), 0.2), observed(OPERATORS["grey"], 0.1)
    dense = [matrix_of(one.operator, SHAPE, MEAN) for one in (first, second)]
    after = PRIOR.condition(dense[0], first.y.flatten(), 0.2)
    alone = Pictures(ExactDenoiser(after, sde))
    exact = Pictures(ExactDenoiser(after.condition(dense[1], second.y.flatten(), 0.1), sde))
    inner = Posterior(Pictures(ExactDenoiser(PRIOR, sde)), first, exact_covariance(first.operator, solved))
    outer = Jacobian(24) if solved else Gaussian(after.moments()[1], SHAPE)
    nested = Posterior(inner, second, outer)
    for level in twenty_levels(sde)[::5]:
        x, _ = noisy(PRIOR, level)
        assert error(inner(x, level), alone(x, level)) < 1e-9
        with torch.no_grad():
            assert error(nested(x, level), exact(x, level)) < 1e-8  # two systems, each to 1e-9


def network(weight=0.3):
    """A small network whose output depends on one sample only, to the bit."""
    return Denoiser(Net(weight), VPSDE(), predict.data, dtype=torch.float64)


@each_operator
@each_covariance
def test_a_sample_has_the_same_bits_in_any_batch_and_with_its_own_y(operator, covariance):
    level = VPSDE().level_at(0.4)
    x = normal(13, *SHAPE)
    y = operator.forward(normal(13, *SHAPE, seed=1))
    each = Posterior(network(), Observed(operator, None, 0.1), covariance)
    whole, misfit = each.with_misfit(x, level, (None, y))
    for size in (1, 2, 5):
        parts = [
            each(x[first : first + size], level, (None, y[first : first + size]))
            for first in range(0, 13, size)
        ]
        assert torch.equal(torch.cat(parts), whole)
    for row in (0, 7):
        one = Posterior(network(), Observed(operator, y[row : row + 1], 0.1), covariance)
        value, fit = one.with_misfit(x[row : row + 1], level)
        assert torch.equal(value[0], whole[row])
        assert torch.equal(fit[0], misfit[row])


@each_operator
@each_covariance
def test_each_sample_may_have_its_own_level(operator, covariance):
    sde, x = VPSDE(), normal(3, *SHAPE)
    levels = sde.levels(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    together = Level(*torch.tensor(levels, dtype=torch.float64).T)
    posterior = Posterior(network(), observed(operator, 0.1), covariance)
    alone = torch.cat([posterior(x[k : k + 1], level) for k, level in enumerate(levels)])
    torch.testing.assert_close(posterior(x, together), alone, rtol=1e-12, atol=1e-12)  # factors round apart


@each_covariance
@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_float32_is_near_float64(covariance, tau):
    sde = VPSDE()
    posterior = Posterior(Pictures(ExactDenoiser(PRIOR, sde)), observed(DENSE, tau), covariance)
    for t in (0.01, 0.3, 1.0):
        level = sde.level_at(t)
        x, _ = noisy(PRIOR, level)
        found = posterior(x.float(), level)
        assert found.dtype == torch.float32
        # 1e-7 of sums of 32 numbers, times the gain of y, at most 1 / tau.
        assert error(found.double(), posterior(x, level)) < 1e-4


def test_a_covariance_of_samples_is_their_own():
    data = PRIOR.sample(500).reshape(500, *SHAPE)
    away = data.flatten(1) - data.flatten(1).mean(0)
    found = Gaussian.of_samples(data)
    torch.testing.assert_close(found.covariance, away.mT @ away / 500, rtol=1e-12, atol=1e-12)
    assert found.shape == SHAPE


def test_a_singular_covariance_without_noise_leaves_out_what_y_cannot_change():
    """Pixels that never change have no variance, so A C A^T has no inverse: their y says nothing new."""
    factor = normal(D, 5, seed=3)
    prior, sde = normal_prior(factor @ factor.mT), EDM()
    x0 = prior.sample(1, seed=4).reshape(1, *SHAPE)
    known = Observed(Known(torch.ones(4, 4)), x0.reshape(1, 2, 16), 0.0)
    posterior = Posterior(Pictures(ExactDenoiser(prior, sde)), known, Gaussian(prior.moments()[1], SHAPE))
    level = sde.level_at(1.0)
    x, _ = noisy(prior, level)
    # All of x_0 is known. Variances of 0 are 1e-16 by rounding, so x0 itself is off by 1e-8.
    assert error(posterior(x, level), x0.expand_as(x)) < 1e-7
