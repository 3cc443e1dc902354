"""Mixtures with full covariances and their posteriors, against quadrature and the algebra of normal laws."""

import math
import re

import pytest
import torch
from scipy import stats

from scoresde import EDM, VPSDE, ExactDenoiser, ExactPosterior, FullMixture, Level, Mixture
from tests.problems import SHARES, STDS, normal, sde_ends

DOUBLE = {"dtype": torch.float64}
COVARIANCES = torch.tensor(
    [[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.6]], [[0.05, 0.0], [0.0, 0.05]]], **DOUBLE
)
PLANE = FullMixture.of(
    torch.tensor([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]], **DOUBLE),
    COVARIANCES,
    torch.tensor([0.5, 0.3, 0.2], **DOUBLE),
)
ROW = torch.tensor([[0.8, -0.5]], **DOUBLE)


def wide(k=3, d=6, seed=0):
    factor = normal(k, d, d, seed=seed) / d**0.5
    means = normal(k, d, seed=seed + 1)
    return FullMixture.of(
        means, factor @ factor.mT, torch.tensor([0.2, 0.5, 0.3], **DOUBLE)
    ), factor @ factor.mT


WIDE, WIDE_COVARIANCES = wide()
A = normal(4, 6, seed=7)


def level_at(sde, r):
    start, end = sde_ends(sde)
    return sde.level_at(end.t + r * (start.t - end.t))


@pytest.mark.parametrize("sde", [VPSDE(), EDM()], ids=["vp", "edm"])
def test_of_isotropic_components_it_is_the_isotropic_mixture(sde):
    one = Mixture(normal(3, 4), STDS, SHARES)
    for r in (0.01, 0.3, 0.9):
        level = level_at(sde, r)
        x = level.alpha * one.sample(20) + level.sigma * normal(20, 4)
        torch.testing.assert_close(
            one.full().denoise(x, level), one.denoise(x, level), rtol=1e-10, atol=1e-10
        )
        torch.testing.assert_close(
            one.full().log_density(x, level), one.log_density(x, level), rtol=1e-10, atol=1e-10
        )
    torch.testing.assert_close(one.full().moments(), one.moments(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("sde", [VPSDE(), EDM()], ids=["vp", "edm"])
def test_the_denoiser_is_tweedies_formula(sde):
    """E[x_0 | x_t] = (x + sigma^2 grad log p_t(x)) / alpha, by autograd on the density."""
    for r in (0.05, 0.3, 0.7):
        level = level_at(sde, r)
        x = (level.alpha * WIDE.sample(20) + level.sigma * normal(20, 6)).requires_grad_()
        (score,) = torch.autograd.grad(WIDE.log_density(x, level).sum(), x)
        tweedie = (x + level.sigma**2 * score) / level.alpha
        # sigma^2 score cancels against x: a rounding of x, seen at x / alpha.
        torch.testing.assert_close(
            WIDE.denoise(x, level), tweedie, rtol=1e-9, atol=1e-9 * level.sigma / level.alpha
        )


def test_the_density_is_that_of_scipy():
    level = VPSDE().level_at(0.3)
    x = normal(20, 6)
    parts = [
        share
        * stats.multivariate_normal(
            level.alpha * m, level.alpha**2 * c + level.sigma**2 * torch.eye(6, **DOUBLE)
        ).pdf(x)
        for share, m, c in zip([0.2, 0.5, 0.3], WIDE.means, WIDE_COVARIANCES, strict=True)
    ]
    torch.testing.assert_close(
        WIDE.log_density(x, level).exp(), torch.from_numpy(sum(parts)), rtol=1e-9, atol=0
    )


def test_samples_have_the_moments_and_the_shares_of_the_mixture():
    x = WIDE.sample(200_000, seed=3)
    mean, covariance = WIDE.moments()
    # Five deviations of a mean of 200,000 numbers of variance 2, and of their products, of variance 10.
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.016)
    torch.testing.assert_close(torch.cov(x.mT), covariance, rtol=0, atol=0.035)
    along = stats.ks_1samp(
        PLANE.sample(20_000, seed=1)[:, 0],
        lambda v: sum(
            w * stats.norm.cdf(v, m, s)
            for w, m, s in zip([0.5, 0.3, 0.2], PLANE.means[:, 0], COVARIANCES[:, 0, 0].sqrt(), strict=True)
        ),
    )
    assert along.pvalue > 1e-3
    assert torch.equal(WIDE.sample(5), WIDE.sample(5))
    assert not torch.equal(WIDE.sample(5, seed=1), WIDE.sample(5, seed=2))


def grid(n=801, reach=5.0):
    """Points of the plane, ``(n^2, 2)``, and the area of each."""
    line = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line), (line[1] - line[0]).item() ** 2


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_in_the_plane_the_posterior_is_bayes_rule_by_quadrature(tau):
    """The midpoint rule converges faster than any power on these densities, which are 0 at the ends."""
    points, area = grid()
    y = torch.tensor([0.4], **DOUBLE)
    clean = Level(0.0, 1.0, 0.0, math.inf)
    prior = PLANE.log_density(points, clean).exp()
    noise = torch.exp(-0.5 * ((y - points @ ROW.mT) / tau) ** 2)[:, 0] / (tau * math.sqrt(2 * math.pi))
    joint = prior * noise
    evidence = joint.sum() * area
    posterior = PLANE.condition(ROW, y, tau)
    assert PLANE.given(ROW, tau).log_evidence(y).item() == pytest.approx(evidence.log().item(), abs=1e-9)
    torch.testing.assert_close(
        posterior.log_density(points, clean).exp(), joint / evidence, rtol=1e-7, atol=1e-9
    )
    mean = (joint[:, None] * points).sum(0) * area / evidence
    torch.testing.assert_close(posterior.moments()[0], mean, rtol=0, atol=1e-8)

    level = VPSDE().level_at(0.4)
    for x in (torch.tensor([[0.3, -0.2]], **DOUBLE), torch.tensor([[-1.0, 1.5]], **DOUBLE)):
        seen = torch.exp(-0.5 * ((x - level.alpha * points) / level.sigma).square().sum(1))
        exact = ((joint * seen)[:, None] * points).sum(0) / (joint * seen).sum()
        torch.testing.assert_close(posterior.denoise(x, level)[0], exact, rtol=0, atol=1e-8)


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.5])
def test_each_component_is_conditioned_as_the_joint_normal_law(tau):
    """Of (x, y) for each component, in dense algebra; the shares are proportional to w_k N(y; ...)."""
    y = normal(4, seed=5)
    found = WIDE.condition(A, y, tau)
    likelihoods = []
    for k, covariance in enumerate(WIDE_COVARIANCES):
        both = torch.cat([torch.eye(6, **DOUBLE), A])
        joint = both @ covariance @ both.mT
        joint[6:, 6:] += tau**2 * torch.eye(4, **DOUBLE)
        gain = torch.linalg.solve(joint[6:, 6:], joint[6:, :6]).mT
        centre = WIDE.means[k] @ both.mT
        likelihoods.append(stats.multivariate_normal(centre[6:], joint[6:, 6:]).pdf(y))
        # Roundings times the condition of A C A^T, up to 1e4.
        torch.testing.assert_close(found.means[k], centre[:6] + gain @ (y - centre[6:]), rtol=1e-9, atol=1e-9)
        after = found.axes[k] @ torch.diag(found.variances[k]) @ found.axes[k].mT
        torch.testing.assert_close(after, joint[:6, :6] - gain @ joint[6:, :6], rtol=1e-9, atol=1e-9)
    weighted = torch.tensor([0.2, 0.5, 0.3], **DOUBLE) * torch.tensor(likelihoods, **DOUBLE)
    torch.testing.assert_close(found.shares, weighted / weighted.sum(), rtol=1e-9, atol=1e-12)
    assert WIDE.given(A, tau).log_evidence(y).item() == pytest.approx(weighted.sum().log().item(), rel=1e-9)


def test_without_noise_draws_of_the_posterior_agree_with_y():
    y = normal(4, seed=5)
    x = WIDE.condition(A, y, 0.0).sample(50)
    # Variances of 0 are 1e-16 by rounding, so that draws scatter by 1e-8.
    torch.testing.assert_close(x @ A.mT, y.expand(50, 4), rtol=0, atol=1e-6)


def test_observations_in_turn_are_observations_at_once():
    y = normal(4, seed=5)
    at_once = WIDE.condition(A, y, 0.3)
    in_turn = WIDE.condition(A[:1], y[:1], 0.3).condition(A[1:], y[1:], 0.3)
    level, x = EDM().level_at(0.8), normal(9, 6)
    torch.testing.assert_close(in_turn.denoise(x, level), at_once.denoise(x, level), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(in_turn.shares, at_once.shares, rtol=1e-9, atol=1e-12)


def test_a_noisy_state_is_an_observation_of_all_numbers():
    """x_t = alpha x_0 + sigma n, so the denoiser is the mean of the mixture given x_t."""
    level, x = VPSDE().level_at(0.4), normal(5, 6)
    given = WIDE.condition(level.alpha * torch.eye(6, **DOUBLE), x, level.sigma)
    torch.testing.assert_close(given.moments()[0], WIDE.denoise(x, level), rtol=1e-9, atol=1e-9)
    # V = (sigma^2 / alpha) J, the second-order formula of Tweedie.
    jacobians = torch.stack(
        [torch.autograd.functional.jacobian(lambda v: WIDE.denoise(v[None], level)[0], row) for row in x]
    )
    expected = level.sigma**2 / level.alpha * jacobians
    torch.testing.assert_close(given.moments()[1], expected, rtol=1e-8, atol=1e-8)


def test_y_of_each_sample_is_y_of_one():
    y, level, x = normal(5, 4), EDM().level_at(0.8), normal(5, 6, seed=2)
    posteriors = WIDE.given(A, 0.2)
    together, draws = posteriors(y), posteriors(y).sample(20_000, seed=1)
    exact = ExactPosterior(WIDE, EDM(), A, 0.2)
    means, spreads = together.moments()
    for k in range(5):
        one = WIDE.condition(A, y[k], 0.2)
        alone = one.denoise(x[k : k + 1], level)[0]
        torch.testing.assert_close(together.denoise(x, level)[k], alone, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(exact(x, level, y)[k], alone, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(together.log_density(x, level)[k], one.log_density(x[k : k + 1], level)[0])
        torch.testing.assert_close(together.shares[k], one.shares, rtol=1e-11, atol=1e-14)
        torch.testing.assert_close(posteriors.log_evidence(y)[k], posteriors.log_evidence(y[k]))
        torch.testing.assert_close((means[k], spreads[k]), one.moments(), rtol=1e-11, atol=1e-11)
        # Five deviations of a mean of 20,000 numbers of variance below 1, twice the posterior's.
        torch.testing.assert_close(draws[k].mean(0), means[k], rtol=0, atol=0.036)
    assert draws.shape == (5, 20_000, 6)


def test_levels_of_each_sample():
    sde, x, y = VPSDE(), normal(3, 6), normal(3, 4, seed=4)
    levels = sde.levels(torch.tensor([0.1, 0.5, 0.9], **DOUBLE))
    together = Level(*torch.tensor(levels, **DOUBLE).T)
    exact = ExactPosterior(WIDE, sde, A, 0.2)
    for k, level in enumerate(levels):
        row = slice(k, k + 1)
        torch.testing.assert_close(
            exact(x, together, y)[row], exact(x[row], level, y[row]), rtol=1e-10, atol=1e-10
        )


def test_an_isotropic_mixture_has_posteriors_and_operators_are_matrices():
    class Last:
        def forward(self, x):
            return x[:, -1:]

    one = Mixture(normal(3, 2), STDS, SHARES)
    y = torch.tensor([0.3], **DOUBLE)
    row = torch.tensor([[0.0, 1.0]], **DOUBLE)
    found, expected = one.condition(Last(), y, 0.1), one.full().condition(row, y, 0.1)
    for part in ("means", "axes", "variances", "log_shares"):
        assert torch.equal(getattr(found, part), getattr(expected, part))
    exact = ExactPosterior(one, EDM(), Last(), 0.1)
    level, x = EDM().level_at(1.0), normal(4, 2)
    torch.testing.assert_close(
        exact(x, level, y.expand(4, 1)), expected.denoise(x, level), rtol=1e-12, atol=1e-12
    )


def test_a_component_without_a_share_counts_for_nothing():
    with_it = FullMixture.of(
        torch.cat([PLANE.means, torch.zeros(1, 2, **DOUBLE)]),
        torch.cat([COVARIANCES, COVARIANCES[:1]]),
        torch.tensor([0.5, 0.3, 0.2, 0.0], **DOUBLE),
    )
    level, x, y = EDM().level_at(0.5), normal(9, 2), torch.tensor([0.3], **DOUBLE)
    for a, b in [(with_it, PLANE), (with_it.condition(ROW, y, 0.1), PLANE.condition(ROW, y, 0.1))]:
        torch.testing.assert_close(a.denoise(x, level), b.denoise(x, level), rtol=1e-12, atol=1e-12)


def test_float32_is_near_float64():
    exact = ExactPosterior(WIDE, EDM(), A, 0.2)
    y, x0 = normal(20, 4), WIDE.sample(20)
    for sigma in (0.01, 1.0, 50.0):
        x, level = x0 + sigma * normal(20, 6, seed=1), EDM().level_at(sigma)
        single = exact(x.float(), level, y.float())
        assert single.dtype == torch.float32
        # 1e-7 of exponents up to 1,000 in the components' weights.
        torch.testing.assert_close(single.double(), exact(x, level, y), rtol=1e-3, atol=1e-3)


ONES = torch.ones(1, **DOUBLE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FullMixture.of(PLANE.means, COVARIANCES, torch.full((3,), 0.3)),
            "shares must not be negative, and",
        ),
        (
            lambda: FullMixture.of(PLANE.means, COVARIANCES, torch.tensor([1.5, -0.5, 0.0])),
            "not be negative, and",
        ),
        (
            lambda: FullMixture.of(PLANE.means, COVARIANCES[:2], PLANE.shares),
            "got (3, 2), (2, 2, 2), (2, 2), (3,)",
        ),
        (lambda: FullMixture.of(PLANE.means[0], COVARIANCES, PLANE.shares), "got (2,), (3, 2, 2)"),
        (
            lambda: FullMixture.of(PLANE.means, -COVARIANCES, PLANE.shares),
            "must not have negative eigenvalues, got",
        ),
        (
            lambda: FullMixture.of(PLANE.means, COVARIANCES.triu(), PLANE.shares),
            "must be finite and symmetric",
        ),
        (
            lambda: FullMixture.of(PLANE.means, COVARIANCES * math.nan, PLANE.shares),
            "must be finite and symmetric",
        ),
        (lambda: PLANE.condition(ROW, ONES, -1.0), "tau must be finite and not negative, got -1.0"),
        (lambda: PLANE.condition(ROW, ONES, math.nan), "tau must be finite and not negative, got nan"),
        (
            lambda: PLANE.condition(torch.ones(1, 3), ONES, 0.1),
            "operator must be (m, 2) and finite, got shape (1, 3)",
        ),
        (lambda: PLANE.condition(ROW * math.nan, ONES, 0.1), "operator must be (m, 2) and finite"),
        (
            lambda: PLANE.condition(torch.cat([ROW, 0 * ROW]), torch.ones(2), 0.0),
            "tau must be positive where",
        ),
        (
            lambda: PLANE.condition(ROW, torch.ones(2), 0.1),
            "y must be (1,) or one such row a sample, got (2,)",
        ),
        (
            lambda: PLANE.given(ROW, 0.1)(torch.ones(3, 1, **DOUBLE)).given(ROW, 0.1),
            "conditioned one by one, got 3",
        ),
        (
            lambda: ExactPosterior(PLANE, EDM(), ROW, 0.1)(normal(3, 2), EDM().level_at(1.0)),
            "cond must be y, a row",
        ),
        (
            lambda: ExactPosterior(PLANE, EDM(), ROW, 0.1)(normal(3, 2), EDM().level_at(1.0), ONES[None]),
            "each of 3",
        ),
    ],
)
def test_wrong_mixtures_and_observations_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_parts_of_the_exact_posterior():
    exact = ExactPosterior(PLANE, EDM(), ROW, 0.1)
    assert (exact.sde, exact.net, exact.classes, exact.dtype) == (EDM(), None, None, None)
    assert exact.at(None) is exact
    with pytest.raises(TypeError, match="ExactPosterior has no network"):
        exact.at(torch.float64)
    assert ExactDenoiser(PLANE, EDM()).mixture is PLANE
