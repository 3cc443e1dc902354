"""The rules of guidance against saturation, and thresholds, each on samples of very different sizes."""

import math

import pytest
import torch

from scoresde import Counted, guided
from scoresde.conditioning import Cost, Projected, Rescaled, Thresholded, cost_at, mixed
from tests.conditioning.guided_networks import LABELS, LEVEL, B, network, states

W = 3.0
SHAPE = (2, 3, 4)
# So that a norm over the whole batch would show.
SIZES = torch.tensor([1e-3, 0.3, 1.0, 30.0, 1e3], dtype=torch.float64)[:, None, None, None]
# Norms are rounded to float32, so that they are the same in any batch.
ROUNDED = {"rtol": 1e-6, "atol": 0.0}

RULES = {
    "rescaled": Rescaled(0.7),
    "rescaled fully": Rescaled(1.0),
    "projected": Projected(),
    "shortened": Projected(0.5, 1.0),
    "both": Rescaled(0.7, Projected(0.5, 0.3)),
    "both the other way": Projected(0.5, 0.3, Rescaled(0.7)),
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def pair():
    return SIZES * states(*SHAPE), SIZES * states(*SHAPE, seed=1)


def norms(x):
    return x.flatten(1).norm(dim=1)


@each_rule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_sample_is_treated_by_itself(rule, dtype):
    good, other = (x.to(dtype) for x in pair())
    weight = torch.linspace(1, 3, B, dtype=dtype)[:, None, None, None]
    whole = rule(good, other, weight)
    assert whole.dtype == dtype
    for i in range(B):
        part = slice(i, i + 1)
        assert torch.equal(rule(good[part], other[part], weight[part]), whole[part])
        assert torch.equal(rule(good[part], other[part], weight[i].item()), whole[part])


@each_rule
def test_weight_1_is_the_estimate(rule):
    good, other = pair()
    torch.testing.assert_close(rule(good, other, 1.0), good, **ROUNDED)
    assert torch.equal(
        guided(network(), None, 1.0, rule=rule)(good, LEVEL, LABELS), network()(good, LEVEL, LABELS)
    )


@each_rule
def test_equal_estimates_and_zeros_stay(rule):
    good, _ = pair()
    torch.testing.assert_close(rule(good, good, W), good, **ROUNDED)
    assert torch.equal(rule(0 * good, 0 * good, W), 0 * good)


def test_rescaling_gives_the_contrast_of_the_estimate():
    good, other = pair()
    plain = mixed(good, other, W)
    full = Rescaled(1.0)(good, other, W)
    std = lambda x: x.flatten(1).std(1)  # noqa: E731
    torch.testing.assert_close(std(full), std(good), **ROUNDED)
    assert torch.equal(Rescaled(0.0)(good, other, W), plain)
    torch.testing.assert_close(Rescaled(0.7)(good, other, W), 0.7 * full + 0.3 * plain, **ROUNDED)


def test_rescaling_leaves_samples_of_one_number():
    good, other = states(1), states(1, seed=1)
    torch.testing.assert_close(Rescaled()(good, other, W), mixed(good, other, W))


def test_a_projection_moves_across_the_estimate():
    good, other = pair()
    moved = Projected()(good, other, W) - good
    cosine = (moved * good).flatten(1).sum(1) / (norms(moved) * norms(good))
    assert cosine.abs().max() < 1e-6  # rounded products
    plain = mixed(good, other, W)
    torch.testing.assert_close(Projected(along=1.0)(good, other, W), plain, rtol=1e-13, atol=1e-13)
    # eta in between: the part across, and a share of the part along D.
    some = Projected(along=0.3)(good, other, W)
    torch.testing.assert_close(some - good, 0.7 * moved + 0.3 * (plain - good), rtol=1e-5, atol=1e-9)


def test_a_radius_limits_the_step():
    good, other = pair()
    radius = norms(good - other).median().item()
    step = norms(Projected(radius, 1.0)(good, other, W) - good) / (W - 1)
    torch.testing.assert_close(step, norms(good - other).clamp(max=radius), **ROUNDED)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rescaled(1.1), r"share must be in \[0, 1\], got 1.1"),
        (lambda: Rescaled(math.nan), r"share must be in \[0, 1\], got nan"),
        (lambda: Projected(0.0), "radius must be positive, got 0.0"),
        (lambda: Projected(math.nan), "radius must be positive, got nan"),
        (lambda: Projected(1.0, math.inf), "along must be finite, got inf"),
        (lambda: Thresholded(network(), 0.0), "bound must be positive and finite, got 0.0"),
        (lambda: Thresholded(network(), math.inf), "bound must be positive and finite, got inf"),
        (lambda: Thresholded(network(), 1.0, 1.0), r"quantile must be in \(0, 1\), .* got 1.0"),
        (lambda: Thresholded(network(), 1.0, 0.0), r"quantile must be in \(0, 1\), .* got 0.0"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


class Estimate(type(network())):
    """A denoiser whose estimate is its input."""

    def forward(self, x, level, cond=None):
        return x


def estimate():
    net = network()
    return Estimate(net.net, net.sde, net.prediction)


def test_static_thresholding_cuts():
    x = SIZES * states(*SHAPE)
    assert torch.equal(Thresholded(estimate(), 0.5)(x, LEVEL), x.clamp(-0.5, 0.5))


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.77, 0.995])
def test_dynamic_thresholding_divides_by_the_quantile(quantile):
    x = SIZES * states(*SHAPE)
    found = Thresholded(estimate(), 0.5, quantile)(x, LEVEL)
    s = torch.quantile(x.abs().flatten(1), quantile, 1).clamp(min=0.5)[:, None, None, None]
    torch.testing.assert_close(found, x.clamp(-s, s) * 0.5 / s, rtol=1e-14, atol=1e-14)
    assert torch.equal(found[0], x[0])  # within the bound: no bit changes
    for i in range(B):
        assert torch.equal(Thresholded(estimate(), 0.5, quantile)(x[i : i + 1], LEVEL)[0], found[i])


def test_thresholds_of_a_sample_of_one_number():
    x = SIZES.reshape(B, 1)
    assert torch.equal(Thresholded(estimate(), 2.0, 0.9)(x, LEVEL), x.clamp(max=2.0))


def test_a_threshold_costs_no_call():
    counted = Counted(network())
    one = Thresholded(guided(counted, None, W), 1.0, 0.9)
    one(states(), LEVEL, LABELS)
    assert (counted.evaluations, cost_at(one, LEVEL)) == (2 * B, Cost(2, 0))
    double = one.at(torch.float64)
    assert (double.bound, double.quantile, double.dtype) == (1.0, 0.9, torch.float64)
