"""Guidance at one level: its formula, its calls, its conditions, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor, nn

from scoresde import EDM, VESDE, VPSDE, Counted, Denoiser, Guided, Transported, guided, predict, sample
from scoresde.conditioning import Cost, Given, Interval, cost_at
from scoresde.denoisers.protocol import as_denoiser, checked
from scoresde.plans.fingerprint import fingerprint
from tests.conditioning.guided_networks import LABELS, LEVEL, NONE, B, Classes, network, none_of, states

each_batching = pytest.mark.parametrize("together", [True, False], ids=["one call", "two calls"])


@each_batching
@pytest.mark.parametrize("weight", [-0.5, 0.3, 1.7, 3.0])
def test_the_formula(weight, together):
    net, x = network(), states()
    d, none = net(x, LEVEL, LABELS), net(x, LEVEL, none_of(x))
    found = guided(net, None, weight, together=together)(x, LEVEL, LABELS)
    torch.testing.assert_close(found, none + weight * (d - none), rtol=1e-14, atol=1e-14)  # sums of 3 terms


@each_batching
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_1_and_0_change_no_bit(dtype, shape, together):
    net, x = network(), states(*shape).to(dtype)
    d, none = net(x, LEVEL, LABELS), net(x, LEVEL, none_of(x))
    assert torch.equal(guided(net, NONE, 1, together=together)(x, LEVEL, LABELS), d)
    assert torch.equal(guided(net, NONE, 0, together=together)(x, LEVEL, LABELS), none)
    # A weight that is a tensor, as at a level for each sample, of which some are 1 and some 0.
    some = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    found = guided(net, NONE, lambda _: some, together=together)(x, LEVEL, LABELS)
    assert torch.equal(found, torch.where(some.bool().reshape(B, *[1] * len(shape)), d, none))


def test_calls():
    counted, x = Counted(network()), states()
    for weight, together, calls, evaluations in (
        (1.0, True, 1, 1),
        (2.0, True, 1, 2),
        (2.0, False, 2, 2),
        (0.0, False, 2, 2),
    ):
        one = guided(counted, None, weight, together=together)
        before = counted.calls, counted.evaluations
        one(x, LEVEL, LABELS)
        assert (counted.calls - before[0], counted.evaluations - before[1]) == (calls, evaluations * B)
        assert one.cost(LEVEL) == cost_at(one, LEVEL) == Cost(evaluations, 0)
        assert cost_at(Counted(Transported(one, EDM())), LEVEL) == Cost(evaluations, 0)


def test_costs_add():
    net = network()
    inner = guided(net, None, 2.0)
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6)
    assert cost_at(net, LEVEL) == Cost(1, 0)
    assert cost_at(Guided(inner, Given(inner, 1), 2.0), LEVEL) == Cost(4, 0)


@each_batching
def test_levels_for_each_sample(together):
    """As adaptive solvers ask: the same bits as for each sample alone, interval and all."""
    times = torch.linspace(0.1, 0.9, B, dtype=torch.float64)
    level, x = VPSDE().level(times), states()
    for edge in (0.0, 0.2):
        one = guided(network(), None, Interval(2.5, 0.3, 3.0, edge), together=together)
        whole = one(x, level, LABELS)
        for i, t in enumerate(times.tolist()):
            alone = one(x[i : i + 1], VPSDE().level_at(t), LABELS[i : i + 1])
            # tanh and the weights of the network round in vectors as they do alone, to 2 digits of float64.
            torch.testing.assert_close(whole[i], alone[0], rtol=1e-14, atol=1e-14)


def test_a_level_of_one_tensor():
    level = VPSDE().level(torch.tensor(0.5, dtype=torch.float64))
    one, x = guided(network(), None, Interval(2.5, 0.3, 3.0)), states()
    torch.testing.assert_close(one(x, level, LABELS), one(x, LEVEL, LABELS), rtol=1e-14, atol=1e-14)


def at(s: float):
    """The level with sigma / alpha = s."""
    return EDM(1e-6, 1e6).level_of(-math.log(s))


def test_a_hard_interval():
    weight = Interval(3.0, 0.5, 2.0)
    values = {0.1: 1, 0.5: 1, 0.51: 3, 1: 3, 2.0: 3, 2.01: 1, 80: 1}
    # Its ends are not on the grid of time_of to the last bit, so that the two levels there are made by hand.
    for s, expected in values.items():
        level = at(s)._replace(lam=-math.log(s))
        assert weight(level) == expected, s
        tensors = type(level)(*(torch.tensor([n], dtype=torch.float64) for n in level))
        assert weight(tensors).tolist() == [expected]
    pure = at(2.0)._replace(alpha=0.0, lam=-math.inf)
    assert Interval(3.0, 0.5)(pure) == Interval(0.1, high=math.inf, edge=0.2)(pure) * 30 == 3
    assert weight(pure) == Interval(3.0, 0.5, 2.0, 0.1)(pure) == 1
    clean = at(2.0)._replace(sigma=0.0, lam=math.inf)
    assert Interval(3.0, high=2.0)(clean) == 3
    assert Interval(3.0, 0.5, edge=0.1)(clean) == 1


def test_a_smooth_interval():
    """S((log s - log low) / edge) S((log high - log s) / edge) of the way from 1 to the weight."""
    weight = Interval(lambda level: 2 + level.sigma, 0.5, 2.0, 0.15)
    for s in (0.2, 0.5, 0.7, 1.0, 2.0, 3.0):
        level = at(s)
        z = [(math.log(level.sigma) - math.log(0.5)) / 0.15, (math.log(2.0) - math.log(level.sigma)) / 0.15]
        g = math.prod(1 / (1 + math.exp(-one)) for one in z)
        expected = 1 + g * (1 + level.sigma)
        assert weight(level) == pytest.approx(expected, rel=1e-12)
        tensor = weight(type(level)(*(torch.tensor(n, dtype=torch.float64) for n in level)))
        assert tensor.item() == pytest.approx(expected, rel=1e-12)
    assert weight(at(1e-5)) == weight(at(1e5)) == 1  # to the last bit: no second call
    assert Interval(0.1, 0.5, 2.0, 0.01)(at(1.0)) == 0.1


def test_a_hard_interval_saves_the_calls_outside():
    counted, x = Counted(network()), states()
    one = guided(counted, None, Interval(3.0, 0.5, 2.0))
    for s, calls in ((0.3, 1), (1.0, 2), (5.0, 1)):
        level = VPSDE().level_of(-math.log(s))
        before = counted.evaluations
        found = one(x, level, LABELS)
        assert counted.evaluations - before == calls * B
        assert one.cost(level) == Cost(calls, 0)
        assert torch.equal(found, network()(x, level, LABELS)) == (calls == 1)


@each_batching
def test_a_null_condition_of_tensors(together):
    class Texts(nn.Module):
        def forward(self, x, t, cond):
            return x * cond["a"][:, None] + cond["b"][0]

    net, x = Denoiser(Texts(), VPSDE(), predict.data), states()
    null = {"a": torch.full((1,), 0.1), "b": (torch.full((1, 2), 0.2), None)}
    cond = {"a": torch.rand(B), "b": (torch.rand(B, 2), None)}
    counted = Counted(net)
    d = net(x, LEVEL, cond)
    none = net(x, LEVEL, {"a": torch.full((B,), 0.1), "b": (torch.full((B, 2), 0.2), None)})
    found = guided(counted, null, 2.0, together=together)(x, LEVEL, cond)
    torch.testing.assert_close(found, 2 * d - none, rtol=1e-6, atol=1e-6)  # conditions of float32
    assert counted.calls == 2 - together


def test_conditions_that_cannot_be_joined_take_two_calls():
    """Texts of another length, and no condition at all."""

    def net(x, level, cond=None):
        return x if cond is None else x * cond.mean(1, keepdim=True)

    net.sde = VPSDE()
    counted, x, cond = Counted(net), states(), torch.rand(B, 7, dtype=torch.float64)
    null = torch.tensor([[0.1, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(
        guided(counted, null, 2.0)(x, LEVEL, cond), 2 * net(x, LEVEL, cond) - 0.2 * x, rtol=1e-14, atol=1e-14
    )
    found = Guided(counted, Given(counted, None), 2.0)(x, LEVEL, cond)
    torch.testing.assert_close(found, 2 * net(x, LEVEL, cond) - x, rtol=1e-14, atol=1e-14)
    assert (counted.calls, counted.evaluations) == (4, 4 * B)


def test_guidance_by_another_network_and_away_from_a_condition():
    good, bad, x = network(), network(0.1), states()
    d, away = good(x, LEVEL, LABELS), bad(x, LEVEL, LABELS)
    found = Guided(good, bad, 2.5)(x, LEVEL, LABELS)
    torch.testing.assert_close(found, away + 2.5 * (d - away), rtol=1e-14, atol=1e-14)
    away = good(x, LEVEL, torch.full((B,), 1))
    found = Guided(good, Given(good, 1), 2.5)(x, LEVEL, LABELS)
    torch.testing.assert_close(found, away + 2.5 * (d - away), rtol=1e-14, atol=1e-14)


class Rude:
    """It writes to its input, or returns it."""

    sde = VPSDE()

    def __call__(self, x, level, cond=None):
        return x.mul_(0.5 if cond is None else 0.25)


def test_a_denoiser_that_writes_to_its_input():
    rude = as_denoiser(Rude())
    found = Guided(rude, Given(rude, None), 3.0, together=False)(states(), LEVEL, LABELS)
    torch.testing.assert_close(found, (0.5 + 3 * (0.25 - 0.5)) * states(), rtol=1e-14, atol=1e-14)
    other = Guided(rude, as_denoiser(Rude()), 3.0)
    torch.testing.assert_close(other(states(), LEVEL, LABELS), 0.25 * states(), rtol=1e-14, atol=1e-14)


def test_in_another_precision_it_still_makes_one_call():
    net = Classes().eval()
    one = guided(Denoiser(net, VPSDE(), predict.data), None, Interval(2.0, 0.1), together=True)
    double = one.at(torch.float64)
    assert double.dtype == torch.float64
    assert (double.weight, double.rule, double.together) == (one.weight, one.rule, True)
    net.calls = 0
    double(states(), LEVEL, LABELS)
    assert net.calls == 1
    by_another = Guided(network(), network(0.1), 2.0).at(torch.float64)
    assert by_another.other.dtype == torch.float64


def test_labels_are_checked_and_a_given_condition_replaces_them():
    net = network()
    for one in (guided(net, None, 2.0), Counted(guided(net, None, 2.0))):
        assert one.classes == NONE
        with pytest.raises(ValueError, match=r"cond must hold labels in \[0, 3\]"):
            sample(one, "ddim", (2, 2), nfe=2, cond=torch.tensor([0, 4]))
        with pytest.raises(ValueError, match=r"cond must hold labels, integers of shape \(2,\)"):
            sample(one, "ddim", (2, 2), nfe=2, cond=torch.tensor([[0], [1]]))
    assert checked(guided(net, None, 2.0), LABELS.to(torch.uint8)).dtype == torch.int64
    x = sample(Given(net, 1), "ddim", (3, 2), nfe=3)
    assert torch.equal(x, sample(net, "ddim", (3, 2), nfe=3, cond=torch.ones(3, dtype=torch.int64)))


def test_the_fingerprint_is_of_weight_rule_and_condition():
    net = network()
    makes = [
        lambda: net,
        lambda: guided(net, None, 2.0),
        lambda: guided(net, None, 3.0),
        lambda: guided(net, 1, 2.0),
        lambda: guided(net, None, Interval(2.0, 0.3)),
        lambda: guided(net, None, Interval(2.0, 0.3, edge=0.1)),
        lambda: Guided(net, network(0.1), 2.0),
    ]
    hashes = [fingerprint(make())["weights"] for make in makes]
    assert len({*hashes}) == len(makes)
    assert hashes == [fingerprint(make())["weights"] for make in makes]


class Dropping(nn.Module):
    classes = NONE

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x, t, cond):
        return self.drop(x)


def test_dropout_in_either_network_is_warned_of():
    dropping = Denoiser(Dropping(), VPSDE(), predict.data)
    for one in (Guided(network(), dropping, 2.0), Counted(Guided(dropping, network(), 2.0))):
        with pytest.warns(UserWarning, match="the network is in training mode"):
            sample(one, "ddim", (2, 2), nfe=1, cond=torch.tensor([0, 1]))


def plain(sde=None):
    return Denoiser(lambda x, t: x, sde or VPSDE(), predict.data)


BAD = {
    "nan": (lambda: guided(network(), None, math.nan), ValueError, "weight must be finite, got nan"),
    "infinite": (lambda: guided(network(), None, math.inf), ValueError, "weight must be finite, got inf"),
    "word": (
        lambda: guided(network(), None, "2x"),
        TypeError,
        "weight must be a number or a function .*'2x'",
    ),
    "no weight": (lambda: guided(network(), None, None), TypeError, "weight must be a number .* got None"),
    "upside down": (lambda: Interval(2.0, 3.0, 0.3), ValueError, "0 <= low < high, got 3.0 and 0.3"),
    "empty": (lambda: Interval(2.0, 0.3, 0.3), ValueError, "0 <= low < high, got 0.3 and 0.3"),
    "negative end": (lambda: Interval(2.0, -1.0, 0.3), ValueError, "0 <= low < high, got -1.0 and 0.3"),
    "nan end": (lambda: Interval(2.0, math.nan), ValueError, "0 <= low < high, got nan and inf"),
    "negative edge": (
        lambda: Interval(2.0, 0.3, 3.0, -0.1),
        ValueError,
        "edge must be .* negative, got -0.1",
    ),
    "infinite edge": (
        lambda: Interval(2.0, 0.3, edge=math.inf),
        ValueError,
        "edge must be finite .* got inf",
    ),
    "nan in an interval": (lambda: Interval(math.nan), ValueError, "weight must be finite, got nan"),
    "no classes": (lambda: guided(plain(), None, 2.0), ValueError, "null must be .* has no classes"),
    "label without classes": (lambda: guided(plain(), 3, 2.0), ValueError, "with classes, .* got 3"),
    "label too large": (lambda: guided(network(), 4, 2.0), ValueError, r"labels in \[0, 3\], .* got 4 to 4"),
    "negative label": (
        lambda: guided(network(), -1, 2.0),
        ValueError,
        r"labels in \[0, 3\], .* got -1 to -1",
    ),
    "float label": (lambda: guided(network(), 3.0, 2.0), TypeError, "cond must be an integer, got 3.0"),
    "float labels": (
        lambda: guided(network(), torch.tensor([3.0]), 2.0),
        ValueError,
        r"cond must hold labels, integers of shape \(1,\)",
    ),
    "labels for each sample": (
        lambda: guided(network(), torch.tensor([3, 3]), 2.0),
        ValueError,
        r"cond must hold one condition for all samples, \(1, ...\), got \(2,\)",
    ),
    "a word in a condition": (
        lambda: guided(plain(), {"text": "none"}, 2.0),
        TypeError,
        r"cond\['text'\] must be a tensor, got str",
    ),
    "not a denoiser": (lambda: Guided(network(), 2.0, 2.0), TypeError, "denoiser must be a Denoiser"),
    "other process": (
        lambda: Guided(plain(VPSDE()), plain(VESDE()), 2.0),
        ValueError,
        r"other must be under the process of the denoiser, VPSDE.*got VESDE.*Transported\(other, sde\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    make, error, words = BAD[case]
    with pytest.raises(error, match=words):
        make()


def test_another_process_is_brought_to_the_first():
    good, bad, x = network(), Denoiser(Classes(0.1), EDM(), predict.data), states()
    moved = Transported(bad, VPSDE())
    found = Guided(good, moved, 2.0)(x, LEVEL, LABELS)
    expected = 2 * good(x, LEVEL, LABELS) - moved(x, LEVEL, LABELS)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


def test_gradients_pass_through():
    """For a posterior around a guided network: of x, to float64, against central differences."""
    one = guided(network().double(), None, 2.5)

    def f(x: Tensor) -> Tensor:
        return one(x, LEVEL, LABELS)

    assert torch.autograd.gradcheck(f, (states().requires_grad_(),))
