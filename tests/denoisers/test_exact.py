"""The denoiser of a mixture in closed form, against quadrature, derivatives and samples."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate as quadrature
from scipy import stats

from scoresde import VPSDE, ExactDenoiser, Level, Mixture, sample
from tests.problems import MEANS, SDES, SHARES, STDS, floats, mixture, normal, sde_ends, sdes

ONE = Mixture(MEANS[:, None], STDS, SHARES)
PLANE = Mixture(
    torch.tensor([[0.0, 1.0, -1.0], [2.0, -1.0, 0.5]], dtype=torch.float64),
    torch.tensor([0.3, 0.8], dtype=torch.float64),
    torch.tensor([0.6, 0.4], dtype=torch.float64),
)


def level_at(sde: object, r: float) -> Level[float]:
    start, end = sde_ends(sde)  # type: ignore[arg-type]
    t = torch.tensor(end.t + r * (start.t - end.t), dtype=torch.float64)
    return Level(*torch.stack(sde.level(t)).tolist())  # type: ignore[attr-defined]


@given(sdes, floats(0.0, 1.0))
def test_the_denoiser_is_tweedies_formula(sde: object, r: float) -> None:
    """E[x_0 | x_t] = (x + sigma^2 grad log p_t(x)) / alpha, by autograd on the density."""
    level = level_at(sde, r)
    x = (level.alpha * 2 * normal(20, 3) + level.sigma * normal(20, 3, seed=1)).requires_grad_()
    (score,) = torch.autograd.grad(PLANE.log_density(x, level).sum(), x)
    tweedie = (x + level.sigma**2 * score) / level.alpha
    # sigma^2 score cancels against x: a rounding of x, seen at x / alpha.
    slack = 1e-13 * max(1.0, level.sigma / level.alpha) + 1e-13 * level.sigma**2 / level.alpha
    torch.testing.assert_close(PLANE.denoise(x, level), tweedie, rtol=1e-9, atol=1e3 * slack)


def gauss(z: float) -> float:
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("x", [-1.2, 0.1, 3.0])
def test_the_denoiser_and_the_density_are_integrals_over_the_data(name: str, x: float) -> None:
    means, stds, shares = MEANS.tolist(), STDS.tolist(), SHARES.tolist()
    for r in (0.02, 0.3, 0.8):
        level = level_at(SDES[name], r)
        x_t = x * math.hypot(level.alpha, level.sigma)

        def joint(x0: float, level: Level[float] = level, x_t: float = x_t) -> float:
            data = sum(w * gauss((x0 - m) / s) / s for m, s, w in zip(means, stds, shares, strict=True))
            return data * gauss((x_t - level.alpha * x0) / level.sigma) / level.sigma

        places = [p for p in (*MEANS.tolist(), x_t / level.alpha) if -6 < p < 6]
        density = quadrature.quad(joint, -6, 6, points=places, limit=200, epsrel=1e-10)[0]
        moment = quadrature.quad(lambda x0: x0 * joint(x0), -6, 6, points=places, limit=200, epsrel=1e-10)[0]
        at = torch.tensor([[x_t]], dtype=torch.float64)
        # The tolerance of the quadrature; the data outside [-6, 6] weighs 1e-30.
        assert ONE.log_density(at, level).exp().item() == pytest.approx(density, rel=1e-7)
        assert ONE.denoise(at, level).item() == pytest.approx(moment / density, rel=1e-7, abs=1e-9)


@given(st.sampled_from(sorted(SDES)), floats(0.0, 1.0))
def test_in_one_dimension_it_is_the_tests_own_formula(name: str, r: float) -> None:
    level = level_at(SDES[name], r)
    x = math.hypot(level.alpha, level.sigma) * 2 * normal(30)
    # The same numbers in another order; distances are squared roots in the one and squares in the other.
    torch.testing.assert_close(
        ONE.denoise(x[:, None], level)[:, 0], mixture(x, level), rtol=1e-11, atol=1e-11
    )


def test_an_exact_denoiser_is_the_mixtures_and_takes_no_condition() -> None:
    denoiser = ExactDenoiser(PLANE, VPSDE())
    level, x = level_at(VPSDE(), 0.4), normal(5, 3)
    assert torch.equal(denoiser(x, level), PLANE.denoise(x, level))
    assert torch.equal(denoiser(x, level, torch.arange(5)), PLANE.denoise(x, level))
    assert denoiser.sde == VPSDE()


def test_points_without_a_spread_are_a_data_set() -> None:
    """Deviation 0: the softmax average of the points themselves."""
    points = normal(6, 3)
    data = Mixture(points, torch.zeros(6, dtype=torch.float64), torch.full((6,), 1 / 6, dtype=torch.float64))
    level, x = level_at(VPSDE(), 0.3), normal(9, 3, seed=3)
    square = (x[:, None] - level.alpha * points).square().sum(2)
    expected = (-square / (2 * level.sigma**2)).softmax(1) @ points
    torch.testing.assert_close(data.denoise(x, level), expected, rtol=1e-11, atol=1e-11)  # roundings


def test_a_component_without_a_share_counts_for_nothing() -> None:
    with_it = Mixture(
        torch.cat([PLANE.means, torch.full((1, 3), 0.1, dtype=torch.float64)]),
        torch.tensor([0.3, 0.8, 0.2], dtype=torch.float64),
        torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64),
    )
    level, x = level_at(VPSDE(), 0.3), normal(9, 3)
    torch.testing.assert_close(with_it.denoise(x, level), PLANE.denoise(x, level), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        with_it.log_density(x, level), PLANE.log_density(x, level), rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("name", SDES)
def test_float32_is_as_good_as_it_can_be(name: str) -> None:
    """At every level of the process, in the type of x; the mixture itself may be in float64."""
    for r in (0.0, 0.01, 0.3, 1.0):
        level = level_at(SDES[name], r)
        x = level.alpha * PLANE.sample(50) + level.sigma * normal(50, 3)
        single = PLANE.denoise(x.float(), level)
        assert single.dtype == torch.float32
        # 1e-7 of x / alpha, which is 150 at most, and of exponents up to 100 in the components' weights.
        torch.testing.assert_close(single.double(), PLANE.denoise(x, level), rtol=1e-4, atol=1e-4)


def test_samples_have_the_moments_of_the_mixture() -> None:
    mean, cov = PLANE.moments()
    x = PLANE.sample(200_000, seed=3)
    assert x.shape == (200_000, 3)
    # Five deviations of a mean of 200,000 numbers of variance 1, and of their products, of variance 5.
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.012)
    torch.testing.assert_close(torch.cov(x.T), cov, rtol=0, atol=0.025)
    assert not torch.equal(PLANE.sample(5, seed=1), PLANE.sample(5, seed=2))


def test_samples_have_their_density() -> None:
    x = ONE.sample(20_000, seed=1)[:, 0].numpy()

    def cdf(x: np.ndarray) -> np.ndarray:
        return stats.norm.cdf(x[:, None], MEANS.numpy(), STDS.numpy()) @ SHARES.numpy()

    assert stats.kstest(x, cdf).pvalue > 1e-3


def test_drawing_data_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(PLANE.sample(5), PLANE.sample(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_solver_on_the_exact_denoiser_draws_the_mixture() -> None:
    """From end to end: 100 calls of a second-order solver, and a test of the law that they give."""
    sde = VPSDE()
    x = sample(ExactDenoiser(ONE, sde), "dpmpp-2m", (4000, 1), nfe=100, dtype=torch.float64, to_clean=True)
    other = ONE.sample(4000, seed=7)
    assert stats.ks_2samp(x[:, 0].numpy(), other[:, 0].numpy()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("means", "stds", "shares", "message"),
    [
        (torch.zeros(2), torch.ones(2), torch.full((2,), 0.5), "means must be (K, D)"),
        (torch.zeros(2, 3), torch.ones(3), torch.full((2,), 0.5), "got (2, 3), (3,), (2,)"),
        (torch.zeros(2, 3), torch.ones(2), torch.full((3,), 1 / 3), "got (2, 3), (2,), (3,)"),
        (torch.zeros(2, 3), torch.ones(2), torch.full((2,), 0.4), "shares must sum to 1"),
        (torch.zeros(2, 3), torch.ones(2), torch.tensor([1.5, -0.5]), "must not be negative"),
        (torch.zeros(2, 3), -torch.ones(2), torch.full((2,), 0.5), "must not be negative"),
        (torch.zeros(2, 3), torch.full((2,), math.nan), torch.full((2,), 0.5), "must not be negative"),
        (torch.zeros(2, 3), torch.ones(2), torch.full((2,), math.nan), "must not be negative"),
    ],
)
def test_parts_that_make_no_mixture_are_refused(
    means: torch.Tensor, stds: torch.Tensor, shares: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Mixture(means, stds, shares)
