"""The distributions of the times, and their factors on the loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm
from training_runs import SDES, even, every_sde

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import noise
from scoresde.processes.continuous import EDM, VESDE, RectifiedFlow
from scoresde.training import weighting
from scoresde.training.time_sampling import Importance, LogNormal, Uniform, stratified


@given(st.integers(1, 64), st.floats(0, 1, exclude_max=True))
def test_stratified_numbers_lie_one_in_each_equal_part(n, first):
    u = torch.cat([torch.tensor([first], dtype=torch.float64), torch.rand(n - 1, dtype=torch.float64)])
    together = stratified(u)
    assert ((together >= 0) & (together < 1)).all()
    # Spaced by exactly 1 / n, around the circle, but for a rounding of each.
    gaps = (together.sort().values.diff() * n - 1).abs()
    assert n == 1 or gaps.max() < 1e-12 * n
    assert together[0] == first % 1


def test_each_stratified_number_is_uniform():
    u = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    third = torch.stack(
        [stratified(torch.tensor([first, 0.0, 0.0, 0.0], dtype=torch.float64))[2] for first in u]
    )
    # Kolmogorov and Smirnov: the chance of a smaller p, were it Uniform(), is the p.
    assert kstest(third.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("time_sampling", [Uniform(), LogNormal(), LogNormal(0.0, 3.0), Importance()])
@every_sde
@given(st.data())
def test_times_stay_inside_and_factors_are_positive(sde, time_sampling, given_data):
    sde = (
        SDES["rectified-flow"].clip(-8.0, math.inf)
        if time_sampling == Importance() and sde == RectifiedFlow()
        else sde
    )
    ends = st.sampled_from([0.0, 5e-324, 2.0**-53, 0.5, 1 - 2.0**-53])
    u = given_data.draw(st.lists(ends | st.floats(0, 1, exclude_max=True), min_size=1, max_size=8))
    t, factor = time_sampling(sde, torch.tensor(u, dtype=torch.float64))
    assert t.dtype == factor.dtype == torch.float64
    assert ((sde.t_min <= t) & (t <= sde.t_max)).all()
    assert (factor > 0).all()
    assert torch.isfinite(factor).all()


@every_sde
def test_uniform_times_are_uniform(sde):
    t, factor = Uniform()(sde, even(1000))
    torch.testing.assert_close(t, sde.t_min + (sde.t_max - sde.t_min) * even(1000), rtol=1e-14, atol=0)
    assert torch.equal(factor, torch.ones_like(t))


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.5, 2.0)])
@every_sde
def test_log_normal_times_have_the_quantiles_of_a_truncated_normal(sde, mean, std):
    u = even(200)
    t, factor = LogNormal(mean, std)(sde, u)
    low, high = (-sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))).tolist()
    expected = truncnorm.ppf(u.numpy(), (low - mean) / std, (high - mean) / std, mean, std)
    # erf is known to 1e-16 of 1, of which the outermost quantiles keep 1e-13 or so.
    torch.testing.assert_close(-sde.lam(t), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)
    assert torch.equal(factor, torch.ones_like(t))


@pytest.mark.parametrize(
    ("mean", "std"),
    [(0.0, 0.0), (0.0, -1.0), (0.0, math.nan), (0.0, math.inf), (math.nan, 1.0), (math.inf, 1.0)],
)
def test_log_normals_that_cannot_be_are_refused(mean, std):
    with pytest.raises(
        ValueError, match=f"mean must be finite and std positive and finite, got {mean} and {std}"
    ):
        LogNormal(mean, std)


@pytest.mark.parametrize("mean", [-30.0, 30.0])
def test_a_log_normal_outside_the_process_is_refused_not_moved_onto_its_ends(mean):
    with pytest.raises(
        ValueError, match=r"less than 1e-9 of its mass in \[-6.215, 4.382\], the range of EDM"
    ):
        LogNormal(mean, 1.0)(EDM(), even(4))


@pytest.mark.parametrize("name", ["vp", "sub-vp", "cosine", "edm", "ddpm"])
def test_importance_changes_the_variance_of_the_likelihood_loss_not_its_mean(name):
    sde = SDES[name]
    denoiser = Denoiser(lambda x, t: x, sde, noise)

    def terms(time_sampling, u):
        """weight * factor * error, for an error of the noise estimate that falls as real ones do."""
        t, factor = time_sampling(sde, u)
        level = sde.level(t)
        error = level.alpha**2 / (level.alpha**2 + level.sigma**2)
        return weighting.Likelihood()(denoiser, level) * factor * error

    n = 200_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, better = terms(Uniform(), u), terms(Importance(), u)
    stated = 5 * math.sqrt((plain.var() + better.var()) / n)  # 5 standard errors of the difference
    assert abs(plain.mean() - better.mean()) < stated
    assert better.var() < 0.5 * plain.var()
    # And by quadrature: one integral, to 1e-3 for its peak at t_min, which equal steps in t resolve badly.
    plain, better = terms(Uniform(), even(1_000_000)).mean(), terms(Importance(), even(1_000_000)).mean()
    assert plain.item() == pytest.approx(better.item(), rel=1e-3)


def test_importance_is_uniform_time_where_that_is_uniform_in_lam():
    u = even(100)
    t, factor = Importance()(VESDE(), u)
    # time_of inverts lam to a few roundings; u and 1 - u run against each other.
    torch.testing.assert_close(t.flip(0), Uniform()(VESDE(), u)[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(factor, torch.ones_like(u), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["vp", "sub-vp", "ve", "cosine", "edm", "ddpm"])
def test_importance_makes_every_term_of_a_noise_prediction_s_likelihood_one_size(name):
    """g^2 / sigma^2 over the density in proportion to it: 2 (lam_max - lam_min) / (t_max - t_min)."""
    sde = SDES[name]
    t, factor = Importance()(sde, even(1000))
    terms = weighting.Likelihood()(Denoiser(lambda x, t: x, sde, noise), sde.level(t)) * factor
    cleanest, noisiest = sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)).tolist()
    expected = 2 * (cleanest - noisiest) / (sde.t_max - sde.t_min)
    torch.testing.assert_close(terms, torch.full_like(terms, expected), rtol=1e-9, atol=0)


def test_importance_is_refused_where_there_is_no_data():
    with pytest.raises(ValueError, match=r"importance sampling needs alpha > 0 at t_max; clip RectifiedFlow"):
        Importance()(RectifiedFlow(), even(4))
    Importance()(RectifiedFlow().clip(-5.0, math.inf), even(4))
