"""Training: what is learned, how often each level counts, and what a run is a function of."""

import copy
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from scoresde.data.pixels import to_float
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import data, edm, noise, score, v, velocity
from scoresde.denoisers.transported import Transported
from scoresde.networks import MLP, UNet
from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.training import Schedule, check_savable, deviation, labels_of, start, train, weighting
from scoresde.training.batches import batch_indices
from scoresde.training.configuration import validate
from scoresde.training.labels import check_labels
from scoresde.training.randomness import seeded
from scoresde.training.state import module
from scoresde.training.times import Importance, LogNormal, Uniform, spread

SDES = {
    "vp": VPSDE(),
    "sub-vp": SubVPSDE(),
    "ve": VESDE(),
    "cosine": Cosine(),
    "edm": EDM(),
    "rectified-flow": RectifiedFlow(),
    "ddpm": DiscreteVPSDE(),
}
every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())


def draw(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def even(n):
    """The middles of n equal parts of [0, 1]."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def run(net, sde, prediction, x, labels=None, *, steps=20, **options):
    """A trained state, and the losses on the way."""
    plain = {key: options.pop(key) for key in ("times", "weighting", "seed") if key in options}
    schedule = Schedule(steps=steps, **{"batch_size": 16, "warmup": 5, "ema": 0.9} | options)
    state = start(Denoiser(net, sde, prediction), schedule)
    return state, list(train(state, x, labels, schedule=schedule, **plain))


def mlp(seed=0, **options):
    torch.manual_seed(seed)
    return MLP(**{"size": 2, "width": 16, "layers": 1} | options)


# ------------------------------------------------------------------------------------- learning

MEAN, STD = torch.tensor([0.4, -0.2]), torch.tensor([0.5, 0.8])


def gaussian(n):
    """Normal data in two independent directions, at the quantiles of each: its moments are exact to 1 / n."""
    normal = torch.special.ndtri(even(n))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return (MEAN + STD * torch.stack([normal, normal[order]], 1)).float()


def exact_denoiser(x, level):
    """E[x_0 | x_t] of this data: regression to the mean, in every direction."""
    gain = level.alpha * STD**2 / ((level.alpha * STD) ** 2 + level.sigma**2)
    return MEAN + gain * (x - level.alpha * MEAN)


@pytest.mark.parametrize(
    ("sde", "prediction", "weigh", "times"),
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
def test_training_learns_the_exact_denoiser_of_normal_data(sde, prediction, weigh, times):
    schedule = {"steps": 250, "batch_size": 256, "lr": 8e-3, "warmup": 20, "ema": 0.98}
    net = mlp(width=32)
    state, _ = run(net, sde, prediction, gaussian(4096), times=times, weighting=weigh, **schedule)
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
    schedule = {"steps": 300, "batch_size": 1024, "lr": 0.05, "clip": 100.0}
    state, _ = run(Affine(), sde, prediction, x, times=Uniform(), **schedule)
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
    schedule = {"steps": 150, "batch_size": 64, "lr": 5e-3, "precision": precision}
    state, progress = run(net, VPSDE(), noise, gaussian(512), times=Uniform(), **schedule)
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


# ------------------------------------------------------------------------------------- weightings


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
        def times(sde, u):
            return Uniform()(sde, u)[0], factor * torch.ones_like(u)

        def weigh(denoiser, level):
            return weight * torch.ones_like(level.t)

        _, (progress,) = run(mlp(), sde, noise, x, steps=1, times=times, weighting=weigh)
        return progress.loss

    once = first_loss(1.0, 1.0)
    # Powers of two: exact in any precision.
    assert first_loss(2.0, 1.0) == 2 * once
    assert first_loss(1.0, 4.0) == 4 * once
    assert first_loss(2.0, 4.0) == 8 * once


@pytest.mark.parametrize("name", ["vp", "sub-vp", "cosine", "edm", "ddpm"])
def test_importance_changes_the_variance_of_the_likelihood_loss_not_its_mean(name):
    sde = SDES[name]
    denoiser = Denoiser(lambda x, t: x, sde, noise)

    def terms(times, u):
        """weight * factor * error, for an error of the noise estimate that falls as real ones do."""
        t, factor = times(sde, u)
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


# ------------------------------------------------------------------------------------- times


@given(st.integers(1, 64), st.floats(0, 1, exclude_max=True))
def test_spread_numbers_lie_one_in_each_equal_part(n, first):
    u = torch.cat([torch.tensor([first], dtype=torch.float64), torch.rand(n - 1, dtype=torch.float64)])
    together = spread(u)
    assert ((together >= 0) & (together < 1)).all()
    # Spaced by exactly 1 / n, around the circle, but for a rounding of each.
    gaps = (together.sort().values.diff() * n - 1).abs()
    assert n == 1 or gaps.max() < 1e-12 * n
    assert together[0] == first % 1


def test_each_spread_number_is_uniform():
    u = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    third = torch.stack([spread(torch.tensor([first, 0.0, 0.0, 0.0], dtype=torch.float64))[2] for first in u])
    # Kolmogorov and Smirnov: the chance of a smaller p, were it Uniform(), is the p.
    assert kstest(third.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("times", [Uniform(), LogNormal(), LogNormal(0.0, 3.0), Importance()])
@every_sde
@given(st.data())
def test_times_stay_inside_and_factors_are_positive(sde, times, given_data):
    sde = (
        SDES["rectified-flow"].clip(-8.0, math.inf)
        if times == Importance() and sde == RectifiedFlow()
        else sde
    )
    ends = st.sampled_from([0.0, 5e-324, 2.0**-53, 0.5, 1 - 2.0**-53])
    u = given_data.draw(st.lists(ends | st.floats(0, 1, exclude_max=True), min_size=1, max_size=8))
    t, factor = times(sde, torch.tensor(u, dtype=torch.float64))
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
    with pytest.raises(ValueError, match=r"hardly ever is in \[-6.215, 4.382\], the range of EDM"):
        LogNormal(mean, 1.0)(EDM(), even(4))


# ------------------------------------------------------------------------------------- batches and labels


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_batches_visit_every_sample_once_an_epoch(n, size, seed):
    epochs = 6
    steps = -(-epochs * n // size)
    walk = torch.cat([batch_indices(seed, step, size, n) for step in range(steps)])
    assert len(walk) == steps * size
    for epoch in range(epochs):
        assert walk[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [batch_indices(seed, step, 50, 50).tolist() for seed in (0, 1) for step in (0, 1, 2)]
    assert len({tuple(order) for order in [*orders, list(range(50))]}) == 7


class Labels(nn.Module):
    """Notes the labels that it is given."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.seen, self.weight = classes, [], nn.Parameter(torch.zeros(1))

    def forward(self, x, t, cond=None):
        self.seen.append(cond)
        return self.weight * x


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_stated_share_of_labels_is_dropped_and_the_others_are_those_of_the_samples(share):
    labels = torch.arange(64) % 3
    x = torch.stack([labels.float(), labels.float()], 1)
    net = Labels(3)

    def times(sde, u):  # no noise to speak of: the network is shown the sample itself
        return torch.full_like(u, sde.t_min), torch.ones_like(u)

    shown = []
    net.register_forward_pre_hook(lambda _, arguments: shown.append(arguments[0][:, 0]))
    run(net, EDM(1e-6, 1.0), data, x, labels, steps=100, batch_size=64, label_dropout=share, times=times)
    seen, own = torch.cat(net.seen), torch.cat(shown).round().long()
    dropped = seen == 3
    # 6400 labels: 4 standard errors of the share.
    assert abs(dropped.double().mean().item() - share) <= 4 * math.sqrt(share * (1 - share) / 6400)
    assert torch.equal(seen[~dropped], own[~dropped])


@pytest.mark.parametrize(
    ("classes", "n", "labels", "named"),
    [
        (3, 0, None, "the data set is empty"),
        (3, 4, None, "the network has 3 classes, but the data have no labels"),
        (3, 4, torch.tensor([0, 2, 2, 0]), "no sample has the label 1, but the network has 3 classes"),
        (20, 4, torch.tensor([5, 7, 7, 5]), "the label 0, 1, 2, 3, 4, 6, 8, 9, 10, 11 and 8 more, but"),
        (3, 4, torch.zeros(4, dtype=torch.complex64), "labels must be 4 integers, .* of torch.complex64"),
        (3, 4, torch.zeros(3, dtype=torch.long), r"labels must be 4 integers, .*, got shape \(3,\)"),
        (3, 4, torch.zeros(4, 1, dtype=torch.long), r"labels must be 4 integers, .*, got shape \(4, 1\)"),
        (3, 4, torch.zeros(4), "labels must be 4 integers, .* of torch.float32"),
        (3, 4, torch.tensor([0, 1, 2, 3]), r"labels must be in \[0, 3\), got 0 to 3"),
        (3, 4, torch.tensor([-1, 1, 2, 0]), r"labels must be in \[0, 3\), got -1 to 2"),
        (0, 4, torch.zeros(4, dtype=torch.long), "labels were given, but the network has no classes"),
    ],
)
def test_data_and_labels_that_do_not_fit_are_refused(classes, n, labels, named):
    with pytest.raises(ValueError, match=named):
        check_labels(Labels(classes), torch.zeros(n, 2), labels)
    with pytest.raises(ValueError, match=named):
        run(Labels(classes), EDM(), edm(), torch.zeros(n, 2), labels, steps=1)


def test_a_callable_that_is_no_module_cannot_be_trained():
    with pytest.raises(TypeError, match="only a module can be trained, got function"):
        start(Denoiser(lambda x, t: x, EDM(), edm()), Schedule())


def test_pixels_become_minus_1_to_1_and_floats_stay():
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(pixels)
    assert (floats[0].item(), floats[255].item()) == (-1.0, 1.0)
    torch.testing.assert_close(
        floats.double(), torch.linspace(-1, 1, 256, dtype=torch.float64), rtol=0, atol=1e-7
    )
    x = draw((4, 2))
    assert torch.equal(to_float(x), x.float())


# ------------------------------------------------------------------------------------- the loop


def equal_states(a, b):
    def tensors(state):
        return [*state.denoiser.state_dict().values(), *state.average.state_dict().values()]

    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


class Dropping(nn.Module):
    """A network with dropout, which takes its numbers from the global random state."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x, t):
        return self.body(torch.cat([x, t[:, None]], 1))


def dropping():
    torch.manual_seed(0)
    return Dropping()


def test_training_neither_reads_nor_changes_the_global_random_state():
    states, runs = [], []
    for seed in (1, 2):
        net = dropping()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        state, progress = run(net, EDM(), edm(), gaussian(64))
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state)
        runs.append(progress)
    assert runs[0] == runs[1]
    assert equal_states(*states)


def test_the_seed_decides_the_run():
    losses = {
        tuple(p.loss for p in run(dropping(), EDM(), edm(), gaussian(64), seed=seed)[1]) for seed in (0, 1, 0)
    }
    assert len(losses) == 2


class Drawing(nn.Module):
    """Draws numbers of its own from the global random state, as dropout does, and notes all it sees."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x, t):
        self.seen.append((x, t, torch.rand(len(x), dtype=torch.float64)))
        return self.weight * x


def test_every_step_draws_anew_for_the_data_and_for_the_network():
    net = Drawing()
    run(net, EDM(), edm(), torch.zeros(64, 2), steps=3)
    for later, earlier in ((1, 0), (2, 1), (2, 0)):
        assert not any(torch.equal(a, b) for a, b in zip(net.seen[later], net.seen[earlier], strict=True))


def test_a_network_does_not_draw_the_numbers_that_its_noise_and_times_are_made_of():
    net, told = Drawing(), []

    def times(sde, u):
        told.append(u)
        return Uniform()(sde, u)

    run(net, EDM(), edm(), torch.zeros(64, 2), steps=3, times=times)
    for u, (_, _, drawn) in zip(told, net.seen, strict=True):
        assert not torch.isin(u, drawn).any()


def test_going_on_from_a_state_is_never_having_stopped():
    x, schedule = gaussian(64), Schedule(steps=20, batch_size=16, warmup=5)
    straight, stopped = (start(Denoiser(dropping(), EDM(), edm()), schedule) for _ in range(2))
    losses = [p.loss for p in train(straight, x, schedule=schedule)]
    first = [p.loss for p in islice(train(stopped, x, schedule=schedule), 7)]
    rest = list(train(stopped, x, schedule=schedule))
    assert first + [p.loss for p in rest] == losses
    assert [p.step for p in rest] == list(range(8, 21))
    assert equal_states(straight, stopped)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_and_falls_as_scheduled(decay):
    schedule = {"steps": 40, "warmup": 10, "decay": decay, "lr": 3e-3}
    _, progress = run(mlp(), EDM(), edm(), gaussian(64), **schedule)
    for k, p in enumerate(progress):
        rise = (k + 1) / 11 if k < 10 else 1.0
        fall = {"cosine": math.cos(math.pi * k / 80) ** 2, "linear": 1 - k / 40, "constant": 1.0}[decay]
        assert p.lr == pytest.approx(3e-3 * rise * fall, rel=1e-12)
    assert [p.step for p in progress] == list(range(1, 41))


def test_the_optimiser_takes_the_scheduled_learning_rate():
    """Adam's first step moves every parameter by the learning rate, whatever the gradient."""
    net = mlp()
    before = [p.detach().clone() for p in net.parameters()]
    _, (progress,) = run(net, EDM(), edm(), gaussian(64), steps=1, warmup=4, lr=1e-2)
    assert progress.lr == pytest.approx(2e-3)
    moved = torch.cat([(p - b).abs().flatten() for p, b in zip(net.parameters(), before, strict=True)])
    # Adam's eps of 1e-8 shortens steps on tiny gradients; most are not tiny.
    assert moved.median().item() == pytest.approx(2e-3, rel=1e-3)
    assert moved.max().item() <= 2e-3 * (1 + 1e-4)


def test_gradients_are_clipped_and_their_norm_is_reported_unclipped():
    def gradient(clip):
        net = mlp()
        _, (progress,) = run(net, EDM(), edm(), gaussian(64), steps=1, clip=clip)
        return progress.grad_norm, torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()

    whole, as_it_is = gradient(1e6)
    reported, clipped = gradient(whole / 10)
    assert as_it_is == pytest.approx(whole, rel=1e-5)
    assert reported == whole
    assert clipped == pytest.approx(whole / 10, rel=1e-4)


# ------------------------------------------------------------------------------------- the moving average


def test_the_average_is_the_loop_that_it_says_to_be_with_its_warm_up():
    net = mlp()
    schedule = Schedule(steps=30, batch_size=16, warmup=5, lr=1e-2, ema=0.7)
    state = start(Denoiser(net, EDM(), edm()), schedule)
    expected = None
    for n, _ in enumerate(train(state, gaussian(64), schedule=schedule)):
        now = [p.detach().double() for p in net.parameters()]
        decay = min(0.7, (1 + n) / (10 + n))  # 0.7 from n = 20 on
        if expected is None:
            expected = [p.clone() for p in now]
        else:
            expected = [decay * a + (1 - decay) * b for a, b in zip(expected, now, strict=True)]
        for a, b in zip(state.average.module.parameters(), expected, strict=True):
            # A few float32 roundings at every step.
            torch.testing.assert_close(a.detach().double(), b, rtol=1e-6, atol=1e-7)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(state.average.module.parameters(), net.parameters(), strict=True)
    )


def test_the_averaged_denoiser_is_the_average_to_sample_from():
    state, _ = run(dropping(), VPSDE(), v, gaussian(64))
    x, level = draw((3, 2), dtype=torch.float32), VPSDE().level(torch.tensor(0.5))
    expected = Denoiser(state.average.module.eval(), VPSDE(), v)(x, level)
    assert torch.equal(state.averaged(x, level), expected)
    assert not torch.equal(state.denoiser.eval()(x, level), expected)


def test_the_average_is_of_parameters_alone():
    torch.manual_seed(0)
    net = UNet(1, (8,), 1, embedding="fourier")
    net.register_buffer("counts", torch.zeros(1))

    def count(module, *_):
        module.counts += 1

    net.register_forward_hook(count)
    frequencies = net.level[0].freqs.clone()
    state, _ = run(net, EDM(), edm(1.0), draw((32, 1, 4, 4)), steps=5)
    buffers, averaged = dict(net.named_buffers()), dict(state.average.module.named_buffers())
    assert buffers.keys() == averaged.keys()
    for name, buffer in buffers.items():
        assert torch.equal(averaged[name], buffer), name
    assert torch.equal(net.level[0].freqs, frequencies)
    assert buffers["counts"].item() == 5


# ------------------------------------------------------------------------------------- what is not finite


class Failing(nn.Module):
    """Returns NaN, or a gradient that is NaN, in the calls whose numbers (from 1) are listed."""

    def __init__(self, bad, kind="loss"):
        super().__init__()
        self.bad, self.kind, self.calls = bad, kind, 0
        self.weight = nn.Parameter(torch.full((2,), 0.1))

    def forward(self, x, t):
        self.calls += 1
        out = self.weight * x
        if self.calls not in self.bad:
            return out
        # sqrt has an infinite slope at 0: a finite loss whose gradient is not.
        return out * math.nan if self.kind == "loss" else out + torch.sqrt(0 * self.weight)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(kind):
    net = Failing({4, 5, 9}, kind)
    schedule = Schedule(steps=12, batch_size=16, warmup=0, max_skipped=3, ema=0.5)
    state = start(Denoiser(net, EDM(), edm()), schedule)
    before, skipped = None, []
    for p in train(state, gaussian(64), schedule=schedule):
        now = [net.weight.detach().clone(), state.average.module.weight.detach().clone()]
        if p.step in (4, 5, 9):
            assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))
            assert math.isfinite(p.loss) == (kind == "gradient")
            assert not math.isfinite(p.grad_norm)
        elif before is not None:
            assert not torch.equal(now[0], before[0])
        assert all(torch.isfinite(value).all() for value in now)
        before = now
        skipped.append(p.skipped)
    assert skipped == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert state.average.n_averaged.item() == 9
    assert (state.step, state.skipped, state.in_row) == (12, 3, 0)


class Normed(Failing):
    """The same behind a batch normalisation, and with a buffer that is replaced at every step."""

    def __init__(self, bad):
        super().__init__(bad)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x, t):
        self.count = self.count + 1
        return super().forward(self.norm(x * (math.nan if self.calls + 1 in self.bad else 1)), t)


def test_a_step_that_is_not_finite_changes_no_buffer():
    net = Normed({1, 4, 5})
    schedule = Schedule(steps=6, batch_size=16, warmup=0, max_skipped=3)
    state = start(Denoiser(net, EDM(), edm()), schedule)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for p in train(state, gaussian(64), schedule=schedule):
        now = {name: buffer.clone() for name, buffer in net.named_buffers()}
        kept = [torch.equal(now[name], before[name]) for name in before]
        assert all(kept) if p.step in (1, 4, 5) else not any(kept)
        before = now
    assert net.count.item() == net.norm.num_batches_tracked.item() == 3
    assert all(torch.isfinite(buffer).all() for buffer in state.average.buffers())


def test_training_stops_after_so_many_steps_in_a_row_and_says_why():
    net = Failing({3, 5, 6, 7, 8})
    schedule = Schedule(steps=20, batch_size=16, max_skipped=4)
    state = start(Denoiser(net, EDM(), edm()), schedule)
    match = "not finite in 4 steps in a row, the last one step 8; lower lr"
    with pytest.raises(FloatingPointError, match=match):
        list(train(state, gaussian(64), schedule=schedule))
    assert (state.step, state.skipped) == (8, 5)
    assert torch.isfinite(net.weight).all()


def test_data_that_is_not_finite_stops_training_too():
    x = gaussian(64)
    x[:, 0] = math.nan
    with pytest.raises(FloatingPointError, match="look for values that are not finite in the data"):
        run(mlp(), EDM(), edm(), x, max_skipped=3)


# ------------------------------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_skipped": 0}, "max_skipped must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
        ({"clip": -1.0}, "clip must be positive and finite, got -1.0"),
        ({"warmup": -1}, "warmup must be finite and not negative, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative, got -0.1"),
        ({"weight_decay": math.inf}, "weight_decay must be finite and not negative, got inf"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and not negative, got nan"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1.0"),
        ({"ema": -0.1}, r"ema must be in \[0, 1\), got -0.1"),
        ({"ema": math.nan}, r"ema must be in \[0, 1\), got nan"),
        ({"label_dropout": 1.1}, r"label_dropout must be in \[0, 1\], got 1.1"),
        ({"label_dropout": math.nan}, r"label_dropout must be in \[0, 1\], got nan"),
        ({"decay": "cosin"}, "decay must be one of cosine, linear, constant, got 'cosin'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16, got 'float16'"),
    ],
)
def test_schedules_that_cannot_be_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        Schedule(**options)


def test_classes_without_a_sample_may_be_allowed():
    labels = torch.tensor([0, 2, 2, 0])
    assert check_labels(Labels(3), torch.zeros(4, 2), labels, allow_missing=True) == 3
    run(Labels(3), EDM(), edm(), torch.zeros(4, 2), labels, steps=1, allow_missing_classes=True)


def test_labels_of_says_which_classes_there_are_and_their_names():
    assert labels_of(None) is None
    assert labels_of(torch.tensor([3, 1, 3])) == ((1, 3), ())
    assert labels_of(torch.tensor([1, 0], dtype=torch.uint8), ["cat", "dog"]) == ((0, 1), ("cat", "dog"))


# ------------------------------------------------------------------------------------- kinds of data


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, ">f4", np.float16, np.longdouble, np.uint8, np.uint16]
)
def test_an_array_trains_as_its_tensor_does(kind):
    numbers = draw((64, 2, 8), 3).numpy() * 0.5
    x = (np.clip(numbers * 60 + 128, 0, 255) if np.dtype(kind).kind == "u" else numbers).astype(kind)
    as_tensor = torch.from_numpy(x if x.dtype == np.uint8 else x.astype(np.float32))
    labels = np.arange(64, dtype=np.int32) % 3
    runs = []
    with pytest.warns() if kind == np.uint16 else nullcontext():
        for data_set, classes in ((x, labels), (as_tensor, torch.from_numpy(labels))):
            torch.manual_seed(0)
            runs.append(run(Scaling(3), VPSDE(), v, data_set, classes, steps=3, times=Uniform())[1])
    assert runs[0] == runs[1]


class Scaling(nn.Module):
    """x times a number that is learned, whatever its shape; with classes, which it does not look at."""

    def __init__(self, classes=0):
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x, t, cond=None):
        return self.weight * x


def test_a_memory_mapped_array_is_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "x.npy", gaussian(64).numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    states = [run(mlp(), EDM(), edm(), x, steps=3)[0] for x in (mapped, gaussian(64))]
    assert equal_states(*states)


VECTORS = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("x", "labels", "error", "named"),
    [
        (
            DataLoader(TensorDataset(VECTORS)),
            None,
            TypeError,
            "a tensor or an array .*, got DataLoader; ",
        ),
        (TensorDataset(VECTORS), None, TypeError, "x must be a tensor or an array .*, got TensorDataset"),
        ([[0.0, 1.0]], None, TypeError, "x must be a tensor or an array of all data, .*, got list;"),
        ((part for part in VECTORS), None, TypeError, "x must be a tensor or an array .*, got generator;"),
        (np.array(["a"]), None, ValueError, r"x must be .* real numbers, got shape \(1,\) of <U1"),
        (VECTORS.sum(), None, ValueError, r"x must be .* real numbers, got shape \(\) of torch.float32"),
        (VECTORS.cfloat(), None, ValueError, "x must be .* real numbers, .* torch.complex64"),
        (VECTORS.bool(), None, ValueError, "x must be .* real numbers, .* torch.bool"),
        (VECTORS, [0, 1, 2, 0], TypeError, "labels must be a tensor or an array .*, got list"),
        (VECTORS, np.zeros(4), ValueError, "labels must be integers, got an array of float64"),
    ],
    ids=lambda value: type(value).__name__,  # the same in every process
)
def test_what_is_neither_tensor_nor_array_is_refused_before_the_first_step(x, labels, error, named):
    schedule = Schedule(steps=1)
    state = start(Denoiser(Labels(3), EDM(), edm()), schedule)
    with pytest.raises(error, match=named):
        train(state, x, labels, schedule=schedule)


def test_a_seed_that_is_no_integer_is_refused_and_one_of_any_size_is_not():
    schedule = Schedule(steps=1, batch_size=4)
    state = start(Denoiser(mlp(), EDM(), edm()), schedule)
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0\.5"):
        train(state, gaussian(8), schedule=schedule, seed=0.5)
    losses = [
        run(mlp(), EDM(), edm(), gaussian(8), steps=1, seed=s)[1] for s in (1, np.int8(1), 2**80, -(2**80))
    ]
    assert losses[0] == losses[1]
    assert len({progress.loss for (progress,) in losses}) == 3


def test_a_configuration_s_seed_may_be_of_any_size():
    content = {"data": {"source": "digits"}, "network": {"name": "mlp"}, "prediction": {"name": "v"}}
    first = {
        seed: validate(content | {"seed": seed}, "test").make_denoiser().net.enter.bias.sum().item()
        for seed in (0, 1, -1, 2**70 + 2, -(2**70) - 3)
    }
    assert len(set(first.values())) == 5
    torch.manual_seed(1)
    assert first[1] == MLP().enter.bias.sum().item()


# ------------------------------------------------------------------------------------- the scale of the data


def test_the_deviation_is_that_of_what_the_network_sees():
    assert deviation(MEAN.mean() + 0.5 * draw((20_000, 2))) == pytest.approx(0.5, rel=0.02)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)[:, None]
    assert deviation(pixels) == pytest.approx(1.0)
    assert deviation(pixels.numpy()) == pytest.approx(1.0)


def warned(x, prediction, times=None):
    """The warnings of the first step."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(Scaling(), EDM(), prediction, x, steps=1, times=times)
    assert all(entry.filename == __file__ for entry in caught)
    return [str(entry.message) for entry in caught]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (3, 3.5)])
@pytest.mark.parametrize("shape", [(64, 1, 4, 4), (64, 16)])
def test_images_that_are_never_negative_are_warned_of_with_their_range(low, high, shape):
    x = torch.linspace(low, high, 1024).reshape(shape)
    (message,) = warned(x, v)
    assert f"the data lie in [{low:.4g}, {high:.4g}], while networks are made for numbers around 0" in message


@pytest.mark.parametrize(
    "x", [torch.linspace(-1, 1, 1024).reshape(64, 16), torch.rand(64, 2), torch.zeros(9, 16)]
)
def test_data_around_0_and_few_numbers_and_constant_data_are_not_warned_of(x):
    assert warned(x, v) == []


@pytest.mark.parametrize("d", [0.05, 0.5, 30.0])
def test_a_sigma_data_or_times_beyond_a_factor_2_are_warned_of_with_the_deviation(d):
    x = d * gaussian(4096) / deviation(gaussian(4096))
    for factor in (1.9, 1 / 1.9):
        assert warned(x, edm(factor * d), LogNormal(math.log(0.6 * d))) == []
    for factor in (2.2, 1 / 2.2):
        (message,) = warned(x, edm(factor * d), LogNormal(math.log(0.6 * d)))
        assert f"sigma_data = {factor * d:.4g}, and these have {d:.4g}" in message
    for median in (0.31, 2.0):
        assert warned(x, edm(d), LogNormal(math.log(median * d))) == []
    for median in (0.28, 2.2):
        (message,) = warned(x, edm(d), LogNormal(math.log(median * d)))
        assert f"the data have the deviation {d:.4g}" in message
        assert f"mean = {math.log(0.6 * d):.2f} is usual" in message


@pytest.mark.parametrize("prediction", [noise, score, data, v, velocity])
def test_predictions_that_scale_nothing_are_made_for_no_deviation(prediction):
    assert warned(30 * gaussian(64), prediction, Uniform()) == []


# ------------------------------------------------------------------------------------- precisions and modes


def test_a_network_in_float64_is_trained_and_its_average_keeps_the_precision_of_the_denoiser():
    state, _ = run(mlp().double(), EDM(), edm(), gaussian(64), steps=3)
    assert {p.dtype for p in state.average.module.parameters()} == {torch.float64}
    assert state.averaged(draw((3, 2), dtype=torch.float32), EDM().level(torch.tensor(0.5))).isfinite().all()
    for dtype in (None, torch.bfloat16, torch.float64):
        denoiser = Denoiser(mlp(), EDM(), edm(), dtype=dtype)
        assert start(denoiser, Schedule()).averaged.dtype == dtype
        assert copy.deepcopy(denoiser).dtype == dtype


def test_the_run_does_not_depend_on_the_default_type():
    x, labels = gaussian(64), torch.arange(64) % 3
    nets = [mlp(classes=3) for _ in range(2)]
    expected = run(nets[0], EDM(), edm(), x, labels, steps=3)[1]
    torch.set_default_dtype(torch.float64)
    try:
        assert run(nets[1], EDM(), edm(), x, labels, steps=3)[1] == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_dropout_is_on_again_after_a_look_at_the_samples():
    losses = []
    for look in (False, True):
        schedule = Schedule(steps=6, batch_size=16)
        state = start(Denoiser(dropping(), EDM(), edm()), schedule)
        part = []
        for progress in train(state, gaussian(64), schedule=schedule):
            part.append(progress.loss)
            if look:
                state.denoiser.eval()
        losses.append(part)
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------- threads


def test_threads_that_train_give_the_bits_of_each_alone_and_leave_the_global_state():
    def one(seed):
        with seeded(seed):
            net = Dropping()
        return run(net, EDM(), edm(), gaussian(64), steps=40, seed=seed)

    alone = [one(seed) for seed in range(4)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(4)))
    assert torch.equal(torch.get_rng_state(), before)
    for (state, progress), (other, other_progress) in zip(alone, together, strict=True):
        assert progress == other_progress
        assert equal_states(state, other)


# ------------------------------------------------------------------------------------- wrapped networks


@pytest.mark.parametrize("wrap", [partial(torch.compile, backend="eager"), nn.DataParallel])
def test_a_wrapped_network_is_trained_and_its_weights_keep_their_names(wrap):
    x, labels = gaussian(64), torch.arange(64) % 3
    plain, _ = run(mlp(classes=3), DiscreteVPSDE(), v, x, labels, steps=3, times=Uniform())
    state, _ = run(wrap(mlp(classes=3)), DiscreteVPSDE(), v, x, labels, steps=3, times=Uniform())
    assert module(state.denoiser).state_dict().keys() == plain.denoiser.net.state_dict().keys()
    assert equal_weights(module(state.denoiser), module(plain.denoiser))
    assert equal_weights(state.average.module, plain.average.module)
    check_savable(state.denoiser)


def equal_weights(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_a_denoiser_is_trained():
    with pytest.raises(TypeError, match="only a Denoiser can be trained, got Transported"):
        start(Transported(Denoiser(mlp(), EDM(), edm()), VPSDE()), Schedule())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.second.weight = self.first.weight


def with_buffer(value):
    net = nn.Linear(2, 2)
    net.register_buffer("mask", value)
    return net


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (
            with_buffer(torch.tensor([0.0, -math.inf])),
            "mask holds numbers that are not finite",
        ),
        (with_buffer(torch.zeros(2, dtype=torch.complex128)), "mask is of torch.complex128"),
        (
            nn.Sequential(torch.compile(nn.Linear(2, 2), backend="eager")),
            "0 is wrapped by OptimizedModule, which renames",
        ),
        (nn.Sequential(nn.DataParallel(nn.Linear(2, 2))), "0 is wrapped by DataParallel"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_found_before_training(net, named):
    with pytest.raises(ValueError, match=named):
        check_savable(Denoiser(net, EDM(), edm()))
    net = nn.Linear(2, 2)
    net.register_buffer("mask", torch.tensor(math.inf), persistent=False)
    check_savable(Denoiser(net, EDM(), edm()))


@pytest.mark.parametrize("net", [Tied(), with_buffer(torch.zeros(2).to(torch.float8_e4m3fn))])
def test_shared_weights_and_numbers_of_a_byte_can_be_saved(net):
    check_savable(Denoiser(net, EDM(), edm()))
