"""Several conditions at once: scores add."""

import math

import pytest
import torch

from scoresde import EDM, Counted, Level, guided, sample
from scoresde.conditioning import Composed
from scoresde.denoisers.protocol import as_denoiser, checked
from scoresde.plans.growth import normal_gain
from scoresde.processes.level import per_sample
from tests.conditioning.guided_networks import LABELS, LEVEL, NONE, B, network, none_of, states

each_batching = pytest.mark.parametrize("together", [True, False], ids=["one call", "several"])


class Normals:
    """E[x_0 | x_t] of N(m, s^2) under EDM, with the condition (m, s)."""

    sde = EDM()

    def __call__(self, x, level, cond=None):
        m, s = cond[:, :1], cond[:, 1:]
        level = Level(*(per_sample(number, x) for number in level))
        return m + normal_gain(level, s**2) * (x - level.alpha * m)


def normals(*cond):
    return tuple(torch.tensor([one], dtype=torch.float64).expand(B, 2) for one in cond)


def score(x, level, m, s):
    return -(x - level.alpha * m) / (level.alpha**2 * s**2 + level.sigma**2)


@each_batching
@pytest.mark.parametrize("weights", [(0.7, -0.4, 0.7), (1.0, 1.0, 1.0), (0.5, 0.2, 0.0), (-1.0, 2.0, 3.0)])
@pytest.mark.parametrize("level", [Level(0.0, 0.6, 0.8, math.log(0.75)), EDM().level_at(2.0)])
def test_the_score_is_the_sum_of_the_scores(level, weights, together):
    one, x = Composed(as_denoiser(Normals()), weights, together=together), states(1)
    parts = ((0.3, 0.5), (-1.0, 1.5), (0.7, 0.2))
    found = (level.alpha * one(x, level, normals(*parts)) - x) / level.sigma**2
    expected = sum(w * score(x, level, *part) for w, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    tensors = Level(*(torch.full((B,), number, dtype=torch.float64) for number in level))
    torch.testing.assert_close(one(x, tensors, normals(*parts)), one(x, level, normals(*parts)))


@each_batching
def test_guidance_is_a_composition_of_two(together):
    net, x = network(), states()
    one = Composed(net, (2.5, -1.5), together=together)
    found = one(x, LEVEL, (LABELS, none_of(x)))
    torch.testing.assert_close(found, guided(net, None, 2.5)(x, LEVEL, LABELS), rtol=1e-13, atol=1e-13)


def test_one_condition_of_weight_1_changes_no_bit_and_weight_0_no_call():
    net, x = Counted(network()), states()
    found = Composed(net, (0.0, 1.0, 0.0))(x, LEVEL, (LABELS, LABELS.flip(0), LABELS))
    assert net.evaluations == B
    assert torch.equal(found, network()(x, LEVEL, LABELS.flip(0)))
    # Sums of decimal numbers are 1 up to rounding: no term in 1 / alpha appears.
    assert Composed(net, (0.1,) * 10).rest == 0


def test_conditions_are_checked_one_by_one():
    one = Counted(Composed(network(), (0.5, 0.5)))
    labels, found = checked(one, (LABELS.to(torch.int16), LABELS))
    assert labels.dtype == found.dtype == torch.int64
    for cond, words in (
        (LABELS, "cond must be a tuple of 2 conditions, got Tensor"),
        (None, "cond must be a tuple of 2 conditions, got NoneType"),
        ((LABELS,), "cond must be a tuple of 2 conditions, got 1"),
        ((LABELS, LABELS + 2), rf"cond\[1\] must hold labels in \[0, {NONE}\], .* got 2 to 4"),
        ((LABELS, LABELS[:3]), r"cond\[1\] must hold 5 conditions, .* got shape \(3,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            sample(one, "ddim", (B, 2), nfe=2, cond=cond)
    assert one.calls == 0


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ((), ValueError, r"weights must be finite and not all 0, got \(\)"),
        ((0.0, 0.0), ValueError, "not all 0"),
        ((1.0, math.nan), ValueError, r"weights must be finite .* nan"),
        ((1.0, "b"), TypeError, "weights must be numbers"),
        (2.0, TypeError, "weights must be numbers, got 2.0"),
    ],
)
def test_what_is_refused(weights, error, words):
    with pytest.raises(error, match=words):
        Composed(network(), weights)


def test_at_pure_noise_the_weights_have_the_sum_1():
    pure = LEVEL._replace(alpha=0.0, lam=-math.inf)
    x = states(1)
    net = as_denoiser(Normals())
    cond = normals((0.3, 0.5), (-1.0, 1.5))
    torch.testing.assert_close(Composed(net, (2.0, -1.0))(x, pure, cond), torch.full_like(x, 1.6))
    with pytest.raises(ValueError, match=r"weights must have the sum 1 at alpha = 0, got \(1.0, 1.0\)"):
        Composed(net, (1.0, 1.0))(x, pure, cond)


def test_in_another_precision():
    one = Composed(network(), (0.5, 0.7), together=False).at(torch.float64)
    assert (one.weights, one.together, one.dtype) == ((0.5, 0.7), False, torch.float64)
