"""Guidance by a classifier: exact with an exact classifier, and without traces of the gradient."""

import math

import pytest
import torch
from torch import nn

from scoresde import VPSDE, Counted, Denoiser, ExactDenoiser, Level, sample
from scoresde.conditioning import Classified, Cost, Given, Interval, cost_at
from tests.conditioning.guided_networks import (
    CLASS,
    LABELS,
    LEVEL,
    PRIOR,
    SHORT,
    B,
    network,
    of_class,
    of_prior,
    states,
)


def log_class(x, level, cond=None):
    """log p(c | x_t), up to the probability of the class."""
    return CLASS.log_density(x, level) - PRIOR.log_density(x, level)


@pytest.mark.parametrize("s", [0.05, 0.5, 3.0, 20.0])
def test_an_exact_classifier_gives_the_exact_condition(s):
    level, x = SHORT.level_of(-math.log(s)), 3 * s * states()
    found = Classified(of_prior(), log_class)(x, level)
    # The gradient is a difference of two scores, times sigma^2.
    torch.testing.assert_close(found, of_class()(x, level), rtol=1e-9, atol=1e-9)
    tensors = Level(*(torch.full((B,), number, dtype=torch.float64) for number in level))
    torch.testing.assert_close(Classified(of_prior(), log_class)(x, tensors), found, rtol=1e-12, atol=1e-12)


def test_alpha_counts():
    """On a process that shrinks the data: sigma^2 / alpha."""
    level, x = VPSDE().level_at(0.4), states()
    found = Classified(ExactDenoiser(PRIOR, VPSDE()), log_class)(x, level)
    torch.testing.assert_close(found, ExactDenoiser(CLASS, VPSDE())(x, level), rtol=1e-9, atol=1e-9)


def test_the_weight_is_of_the_gradient():
    level, x = SHORT.level_at(1.0), states()
    d, c = of_prior()(x, level), of_class()(x, level)
    torch.testing.assert_close(Classified(of_prior(), log_class, 2.5)(x, level), d + 2.5 * (c - d))
    assert torch.equal(Classified(of_prior(), log_class, 0.0)(x, level), d)
    inside = Classified(of_prior(), log_class, lambda at: Interval(3.5, 0.3, 2.0)(at) - 1)
    torch.testing.assert_close(inside(x, level), d + 2.5 * (c - d))
    assert torch.equal(inside(3 * x, SHORT.level_at(5.0)), of_prior()(3 * x, SHORT.level_at(5.0)))
    assert [cost_at(inside, SHORT.level_at(s)) for s in (1.0, 5.0)] == [Cost(1, 1), Cost(1, 0)]


class Classifier(nn.Module):
    """log p(c | x_t) by a small network of x and sigma."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 9).reshape(3, 3))

    def forward(self, x, level, cond):
        sigma = torch.as_tensor(level.sigma).to(x).expand(len(x))[:, None]
        logits = self.layer(torch.cat([x, sigma], 1).to(self.layer.weight)).log_softmax(1)
        return logits.gather(1, cond[:, None])[:, 0]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_no_trace_of_the_gradient_is_left(mode):
    classifier = Classifier()
    one = Classified(Given(network(), None), classifier, 2.0)
    with mode():
        x = states().float()  # in inference mode, a tensor that cannot require a gradient
        found = one(x, LEVEL, LABELS)
    assert not found.requires_grad
    assert all(p.grad is None for p in classifier.parameters())
    assert torch.equal(x, states().float())
    assert not x.requires_grad


def test_the_classifier_may_write_to_its_input():
    def writing(x, level, cond):
        with torch.no_grad():
            x.zero_()
        return x.square().sum(1)

    x = states()
    assert torch.equal(Classified(network(), writing)(x, LEVEL, LABELS), network()(states(), LEVEL, LABELS))


def test_gradients_are_counted(monkeypatch):
    calls = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or real(*a, **k))
    counted = Counted(network())
    one = Classified(counted, Classifier(), Interval(1.0, 0.3))
    x = sample(one, "dpmpp-2m-sde", (B, 2), nfe=6, cond=LABELS, batch_size=B)
    assert x.isfinite().all()
    assert (len(calls), counted.calls) == (6, 6)
    assert sum(cost_at(one, LEVEL).vjps for _ in calls) == 6


def test_a_run_with_an_exact_classifier_is_a_run_of_the_class():
    runs = [
        sample(of, "dpmpp-2m-sde", (B, 2), nfe=20, dtype=torch.float64)
        for of in (Classified(of_prior(), log_class), of_class())
    ]
    torch.testing.assert_close(*runs, rtol=1e-7, atol=1e-7)  # roundings, grown over 20 steps


def test_it_can_be_differentiated():
    """For a posterior around it: the Hessian of log p is in its derivative."""
    one, x = Classified(of_prior(), log_class, 1.5), states().requires_grad_()
    level = SHORT.level(torch.full((B,), 0.7, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda at: one(at, level), (x,))


def plain():
    return Denoiser(lambda x, t: x, "vp", "data")


@pytest.mark.parametrize(
    ("log_prob", "words"),
    [
        (lambda x, level, cond: x.sum(), r"log_prob must return \(5,\), .* got shape \(\), with a gradient"),
        (lambda x, level, cond: x.sum(1, keepdim=True), r"got shape \(5, 1\), with a gradient"),
        (lambda x, level, cond: x.detach().sum(1), r"got shape \(5,\), without a gradient"),
    ],
)
def test_a_wrong_log_probability_is_refused_before_the_network(log_prob, words):
    net = network()
    with pytest.raises(ValueError, match=words):
        sample(Classified(net, log_prob), "ddim", (B, 2), nfe=2, cond=LABELS)
    assert net.net.calls == 0


def test_what_is_refused():
    with pytest.raises(TypeError, match="log_prob must be a function, got str"):
        Classified(plain(), "cat")
    with pytest.raises(ValueError, match="weight must be finite, got nan"):
        Classified(plain(), log_class, math.nan)
    with pytest.raises(ValueError, match="at alpha = 0 the gradient of log_prob has no weight"):
        Classified(plain(), log_class)(states(), LEVEL._replace(alpha=0.0, lam=-math.inf))


def test_in_another_precision():
    classifier = Classifier()
    one = Classified(network(), classifier, 2.0).at(torch.float64)
    assert (one.log_prob, one.weight, one.dtype) == (classifier, 2.0, torch.float64)
