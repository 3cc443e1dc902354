"""Where a network meets a level: every prediction against its definition, and what a network is shown."""

import copy
import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import PREDICTIONS, data, edm, noise, score, v, velocity
from scoresde.denoisers.transported import Transported
from scoresde.networks import MLP, UNet
from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.processes.level import Level

EPS = torch.finfo(torch.float64).eps

SDES = {
    "vp": VPSDE(),
    "sub-vp": SubVPSDE(),
    "ve": VESDE(),
    "cosine": Cosine(),
    "edm": EDM(),
    "rectified-flow": RectifiedFlow(t_max=0.999),
    "ddpm-linear": DiscreteVPSDE(),
    "ddpm-scaled-linear": DiscreteVPSDE(schedule="scaled-linear"),
    "ddpm-cosine": DiscreteVPSDE(schedule="cosine", t_max=0.998),
}
SIGMA_DATA = 0.7
CHOSEN = {"noise": noise, "score": score, "data": data, "v": v, "velocity": velocity, "edm": edm(SIGMA_DATA)}

every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())
every_prediction = pytest.mark.parametrize("name", CHOSEN)

# As many samples as another axis is long: a transposition cannot go unseen in the values, only in the shape.
SHAPES = [(3,), (3, 3), (3, 3, 8, 8), (5, 5, 4, 3, 2)]


def draw(shape, seed, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def times(sde, n):
    return torch.linspace(sde.t_min, sde.t_max, n, dtype=torch.float64)


def wide(number, x):
    return number.reshape(-1, *[1] * (x.ndim - 1))


def target(name, x0, eps, alpha, sigma):
    """What a network of this kind ought to return, by its definition in the paper."""
    if name == "edm":  # Karras et al., Table 1, at the noise level r = sigma / alpha of x_t / alpha
        r, y = sigma / alpha, x0 + sigma / alpha * eps
        skip = SIGMA_DATA**2 / (r**2 + SIGMA_DATA**2)
        return (x0 - skip * y) * (r**2 + SIGMA_DATA**2) ** 0.5 / (r * SIGMA_DATA)
    return {
        "noise": lambda: eps,
        "score": lambda: -eps / sigma,
        "data": lambda: x0,
        "v": lambda: alpha * eps - sigma * x0,
        "velocity": lambda: eps - x0,
    }[name]()


def test_every_prediction_of_the_registry_is_tested_here():
    assert set(PREDICTIONS) == set(CHOSEN)


@every_prediction
@every_sde
def test_the_exact_target_gives_back_the_data_and_costs_nothing(sde, name):
    x0, eps = draw((40, 3), 0), draw((40, 3), 1)
    t = times(sde, 40)
    level = sde.level(t)
    alpha, sigma = wide(level.alpha, x0), wide(level.sigma, x0)
    exact = target(name, x0, eps, alpha, sigma)
    denoiser = Denoiser(lambda x, t: exact, sde, CHOSEN[name])
    estimate = denoiser(alpha * x0 + sigma * eps, level)
    # x_0 is the difference of terms of the size sigma / alpha, each known to a few roundings.
    assert ((estimate - x0).abs() <= 32 * EPS * (1 + sigma / alpha)).all()
    # The loss rebuilds the target; 1 - skip alpha is known to EPS, and divided by out: sigma^2 / alpha for a
    # score prediction, whose target is 1 / sigma times as large, and sigma / alpha or more for the others.
    size = exact.square().mean(1) + (alpha / sigma).square()[:, 0]
    if name == "score":
        size = size + (alpha / sigma**2).square()[:, 0]
    assert (denoiser.loss(x0, t, eps) <= (16 * EPS) ** 2 * size).all()


@every_prediction
@every_sde
def test_the_loss_is_the_mean_squared_error_of_the_output(sde, name):
    x0, eps, off = draw((4, 3), 0), draw((4, 3), 1), draw((4, 3), 2)
    t = times(sde, 4)
    exact = target(name, x0, eps, wide(sde.alpha(t), x0), wide(sde.sigma(t), x0))
    loss = Denoiser(lambda x, t: exact + off, sde, CHOSEN[name]).loss(x0, t, eps)
    # The target is known to a few roundings of it and of 1 - skip alpha, which is divided by an out that is
    # at least sigma / alpha; off, which is added to it, has the size of 1.
    known = 1 + exact.abs().max() + (sde.alpha(t) / sde.sigma(t)).max()
    torch.testing.assert_close(loss, off.square().mean(1), rtol=0, atol=64 * EPS * known.item())


@every_prediction
@every_sde
def test_the_loss_shows_the_network_the_scaled_noisy_data(sde, name):
    x0, eps = draw((4, 3), 0), draw((4, 3), 1)
    t = times(sde, 4)
    shown = []

    def net(x, t):
        shown.append((x, t))
        return x

    denoiser = Denoiser(net, sde, CHOSEN[name])
    denoiser.loss(x0, t, eps)
    denoiser(sde.marginal_sample(x0, t, eps), sde.level(t))
    (in_loss, told_in_loss), (in_use, told_in_use) = shown
    torch.testing.assert_close(in_loss, in_use, rtol=1e-13, atol=1e-13)
    assert torch.equal(told_in_loss, told_in_use)


def as_network(name, denoise, sde, t):
    """The network of a kind that is this function ``denoise(x, t)`` at the time t, solved for by hand."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)

    def net(x, told):
        d = denoise(x, t)
        return {
            "noise": lambda: (x - alpha * d) / sigma,
            "score": lambda: (alpha * d - x) / sigma**2,
            "data": lambda: d,
            "v": lambda: (alpha * x - (alpha**2 + sigma**2) * d) / sigma,
            "velocity": lambda: (x - (alpha + sigma) * d) / sigma,
        }[name]()

    def net_of_edm(scaled, told):
        norm = sigma**2 + (alpha * SIGMA_DATA) ** 2
        x = scaled * norm.sqrt()
        return (denoise(x, t) - SIGMA_DATA**2 * alpha / norm * x) * norm.sqrt() / (sigma * SIGMA_DATA)

    return net_of_edm if name == "edm" else net


@every_sde
@settings(max_examples=20)
@given(place=st.floats(0, 1))
def test_one_function_in_every_parametrisation_gives_one_estimate(sde, place):
    t = torch.tensor(sde.t_min + place * (sde.t_max - sde.t_min), dtype=torch.float64)
    t = t.clamp(sde.t_min, sde.t_max)
    level = Level(*torch.stack(sde.level(t)).tolist())
    x = sde.marginal_sample(draw((5, 2), 0), t, draw((5, 2), 1))

    def denoise(x, t):
        return torch.tanh(x / (1 + sde.sigma(t))) + 0.1 * t

    expected = denoise(x, t)
    for name, prediction in CHOSEN.items():
        estimate = Denoiser(as_network(name, denoise, sde, t), sde, prediction)(x, level)
        # 1e-12 of the largest term that the estimate is made of, x / alpha.
        atol = 1e-12 * (1 + (x / level.alpha).abs().max().item())
        torch.testing.assert_close(estimate, expected, rtol=0, atol=atol)


# ------------------------------------------------------------------------------------- EDM's preconditioning


def decades(low, high):
    return st.floats(low, high).map(lambda x: 10.0**x)


@given(decades(-4, 3), decades(-1, 1))
def test_edm_is_table_1_of_karras_where_alpha_is_1(sigma, sigma_data):
    scale, skip, out, told = edm(sigma_data)(Level(0.3, 1.0, sigma, -math.log(sigma)))
    norm = sigma**2 + sigma_data**2
    # Rounding of the same formulas.
    assert scale == pytest.approx(1 / math.sqrt(norm), rel=1e-14)
    assert skip == pytest.approx(sigma_data**2 / norm, rel=1e-14)
    assert out == pytest.approx(sigma * sigma_data / math.sqrt(norm), rel=1e-14)
    assert told == pytest.approx(math.log(sigma) / 4, rel=1e-14, abs=1e-300)


@given(decades(-3, 0), decades(-3, 2))
def test_edm_of_x_is_edm_of_x_over_alpha(alpha, sigma):
    """The estimate depends on x / alpha and sigma / alpha alone, whatever the process."""
    lam = math.log(alpha) - math.log(sigma)
    denoiser = Denoiser(lambda x, t: torch.tanh(x) + torch.sin(t)[:, None], VPSDE(), edm(SIGMA_DATA))
    y = draw((4, 2), 0)
    here = denoiser(alpha * y, Level(0.5, alpha, sigma, lam))
    there = denoiser(y, Level(0.1, 1.0, sigma / alpha, lam))
    torch.testing.assert_close(here, there, rtol=1e-13, atol=1e-14)


def test_edm_scales_its_input_and_its_target_to_deviation_1():
    sde = VPSDE()
    t = times(sde, 6)
    x0, eps = SIGMA_DATA * draw((6, 200_000), 0), draw((6, 200_000), 1)
    seen = {}

    def net(x, t):
        seen["x"] = x
        return torch.zeros_like(x)

    loss = Denoiser(net, sde, edm(SIGMA_DATA)).loss(x0, t, eps)
    # A variance over 200,000 draws has the standard error sqrt(2 / 200,000) = 0.0032; 5 of these.
    assert (seen["x"].var(1) - 1).abs().max() < 0.016
    assert (loss - 1).abs().max() < 0.016


def test_edm_by_default_is_for_a_deviation_of_one_half():
    level = Level(1.0, 0.6, 0.8, math.log(0.6 / 0.8))
    assert edm()(level) == edm(0.5)(level) != edm(0.4)(level)
    # Of Table 1 at sigma / alpha = 4/3: skip = 0.25 / (0.25 + 16/9), and alpha = 0.6 divides it.
    assert edm()(level).skip == pytest.approx(0.25 / (0.25 + 16 / 9) / 0.6, rel=1e-14)


@pytest.mark.parametrize("kind", [float, torch.tensor])
def test_edm_is_finite_where_there_is_no_data(kind):
    level = Level(kind(1.0), kind(0.0), kind(2.0), kind(-math.inf))
    scale, skip, out, told = edm(SIGMA_DATA)(level)
    # E[x_0 | noise] is what the network says, at the data's deviation.
    assert [float(number) for number in (scale, skip, out)] == pytest.approx([0.5, 0.0, SIGMA_DATA])
    assert told == math.inf


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_edm_refuses_a_deviation_that_cannot_be(bad):
    with pytest.raises(ValueError, match="sigma_data must be positive and finite, got"):
        edm(bad)


# ------------------------------------------------------------------------------------- what a network sees


class Recorder:
    """A callable that notes what it is called with, and returns zeros."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, *cond):
        self.calls.append((x, t, *cond))
        return torch.zeros_like(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_sde
def test_the_network_is_told_the_label_for_every_sample_however_the_level_is_given(sde, dtype):
    x = torch.zeros(3, 2, 4, dtype=dtype)
    t = torch.full((3,), (sde.t_min + sde.t_max) / 2, dtype=torch.float64)
    level = sde.level(t)
    given_as = {
        "floats": Level(*(number[0].item() for number in level)),
        "numbers": Level(*(number[0] for number in level)),
        "one for each": level,
        "broadcasting": Level(*(wide(number, x) for number in level)),
        "one, broadcasting": Level(*(number[:1, None, None] for number in level)),
    }
    for prediction, expected in ((noise, sde.label(t)), (edm(), -level.lam / 4)):
        for how, this in given_as.items():
            net = Recorder()
            Denoiser(net, sde, prediction)(x, this)
            ((shown, told),) = net.calls
            assert (shown.dtype, told.dtype, told.shape) == (dtype, dtype, (3,)), how
            assert torch.equal(told, expected.to(dtype)), how


def test_a_network_trained_on_steps_is_told_their_numbers_exactly():
    sde, net = DiscreteVPSDE(), Recorder()
    denoiser = Denoiser(net, sde, noise)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    denoiser.loss(torch.zeros(1000, 1), t, torch.zeros(1000, 1))
    for index in range(0, 1000, 37):
        denoiser(torch.zeros(1, 1), Level(*torch.stack(sde.level(t[index])).tolist()))
    in_loss, *single = [told for _, told in net.calls]
    assert in_loss.tolist() == list(range(1000))
    assert [told.item() for told in single] == list(range(0, 1000, 37))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_prediction
def test_every_sample_has_its_own_level(shape, name):
    sde = VPSDE()
    t = times(sde, shape[0])
    x, eps = draw(shape, 0), draw(shape, 1)
    denoiser = Denoiser(lambda x, t: torch.tanh(x) * wide(1 + t, x), sde, CHOSEN[name])
    together, loss = denoiser(x, sde.level(t)), denoiser.loss(x, t, eps)
    assert (together.shape, loss.shape) == (shape, shape[:1])
    broadcasting = Level(*(wide(number, x) for number in sde.level(t)))
    assert torch.equal(denoiser(x, broadcasting), together)
    for i in range(shape[0]):
        one = slice(i, i + 1)
        alone = denoiser(x[one], Level(*torch.stack(sde.level(t[i])).tolist()))
        # The same few operations on host floats, and 1e-13 for the terms x / alpha at t = 1, of the size 150.
        torch.testing.assert_close(together[one], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(loss[one], denoiser.loss(x[one], t[one], eps[one]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("seen", [None, torch.tensor([2, 0, 1])], ids=["no cond", "cond"])
def test_a_condition_is_handed_on_and_no_condition_is_no_argument(seen):
    net = Recorder()
    denoiser = Denoiser(net, VPSDE(), data)
    x, t = torch.zeros(3, 2), torch.full((3,), 0.5)
    denoiser(x, VPSDE().level(t), seen)
    denoiser.loss(x, t, x, seen)
    for _, _, *cond in net.calls:
        assert cond == ([] if seen is None else [seen])
    assert len(net.calls) == 2


def test_a_module_is_part_of_the_denoiser_and_any_callable_will_do():
    module = torch.nn.Linear(2, 2)
    assert list(Denoiser(lambda x, t: x, VPSDE(), data).parameters()) == []

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t):
            return self.inner(x)

    denoiser = Denoiser(Net(), VPSDE(), data)
    assert set(denoiser.parameters()) == set(module.parameters())
    x = draw((3, 2), 0, torch.float32)
    assert torch.equal(denoiser(x, VPSDE().level(torch.tensor(0.5))), module(x))


# ------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_precision_is_the_network_s_alone(low, dtype):
    seen = {}
    layer = torch.nn.Linear(2, 2)

    def net(x, t):
        seen.update(shown=x.dtype, told=t.dtype, inside=layer(x).dtype)
        return 0 * layer(x)

    x = draw((4, 2), 0, dtype)
    level = VPSDE().level(torch.tensor(0.5, dtype=torch.float64))
    estimate = Denoiser(net, VPSDE(), v, dtype=low)(x, level)
    assert seen == {"shown": torch.float32, "told": torch.float32, "inside": low}
    # What passes by the network, skip x, keeps the precision of x: rounding of one product.
    expected = (level.alpha / (level.alpha**2 + level.sigma**2)) * x.double()
    torch.testing.assert_close(estimate.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert estimate.dtype == dtype


def test_a_whole_precision_is_that_of_what_the_network_is_shown():
    net = Recorder()
    level = VPSDE().level(torch.tensor(0.5))
    estimate = Denoiser(net, VPSDE(), v, dtype=torch.float64)(torch.ones(2, 3), level)
    ((shown, told),) = net.calls
    assert (shown.dtype, told.dtype, estimate.dtype) == (torch.float64, torch.float64, torch.float32)


@pytest.mark.parametrize("own", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("net", "shape"), [(MLP(2, 16, 1), (4, 2)), (UNet(1, (8, 16), 1), (4, 1, 8, 8))], ids=["mlp", "unet"]
)
def test_without_a_precision_the_network_runs_in_that_of_its_parameters(net, shape, dtype, own):
    net = copy.deepcopy(net)
    torch.nn.init.constant_([*net.parameters()][-1], 0.7)  # a new U-Net returns zero
    x, level = draw(shape, 0, dtype), VPSDE().level(torch.tensor(0.5, dtype=torch.float64))
    with torch.no_grad():
        exact = Denoiser(copy.deepcopy(net).double(), VPSDE(), v)(x.double(), level)
        denoiser = Denoiser(net, VPSDE(), v)
        denoiser.to(own)  # after it was made
        estimate = denoiser(x, level)
    assert estimate.dtype == dtype
    # Roundings of some ten layers, each of numbers of the size of 1.
    size = max(torch.finfo(own).eps, torch.finfo(dtype).eps)
    torch.testing.assert_close(estimate.double(), exact, rtol=0, atol=20 * size)


class NoFloat64(TorchDispatchMode):
    """As on devices that have none: no tensor off the CPU may be of float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in (part for part in tree_leaves(out) if isinstance(part, torch.Tensor)):
            assert tensor.device.type == "cpu" or tensor.dtype != torch.float64, func
        return out


@pytest.mark.parametrize("sde", [VPSDE(), EDM(), DiscreteVPSDE()], ids=["vp", "edm", "ddpm"])
@every_prediction
def test_the_loss_of_times_on_the_cpu_makes_no_float64_on_another_device(sde, name):
    net = MLP(2, 8, 1).to("meta")
    denoiser, x = Denoiser(net, sde, CHOSEN[name]), torch.zeros(4, 2, device="meta")
    with NoFloat64():
        loss = denoiser.loss(x, times(sde, 4), x)
    assert (loss.device.type, loss.dtype, loss.shape) == ("meta", torch.float32, (4,))
    with NoFloat64(), pytest.raises(AssertionError):
        torch.zeros(1, device="meta").double()


def test_parameters_that_nothing_can_be_computed_with_are_refused():
    net = torch.nn.Linear(2, 2).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"a network cannot run with parameters of torch\.float8"):
        Denoiser(net, VPSDE(), noise)


def test_a_transported_denoiser_has_the_precision_of_its_own():
    inner = Denoiser(Recorder(), VPSDE(), noise, dtype=torch.bfloat16)
    assert Transported(Transported(inner, EDM()), Cosine()).dtype == torch.bfloat16


# ------------------------------------------------------------------------------------- labels of a unit


class Unit(torch.nn.Module):
    """A network whose features are made for labels within 8 units, which notes what it is told."""

    label_span = 8.0

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, x, t):
        self.told.append(t)
        return torch.zeros_like(x)


def test_the_networks_that_ship_are_made_for_labels_of_about_one_unit():
    assert MLP.label_span == UNet.label_span == 8.0


@pytest.mark.parametrize(
    "wrap",
    [lambda net: net, torch.nn.DataParallel, partial(torch.compile, backend="eager")],
    ids=["as it is", "DataParallel", "compiled"],
)
@every_prediction
@every_sde
def test_a_network_that_asks_for_it_is_told_labels_of_about_one_unit(sde, name, wrap):
    t = times(sde, 5)
    level = sde.level(t)
    expected = -level.lam / 4 if name == "edm" or sde == EDM() else t
    assert expected.max() - expected.min() <= 8
    net, x = Unit(), torch.zeros(5, 2, dtype=torch.float64)
    denoiser = Denoiser(wrap(net), sde, CHOSEN[name])
    denoiser(x, level)
    denoiser.loss(x, t, x)
    for number in range(5):
        denoiser(x[:1], Level(*(entry[number].item() for entry in level)))
    in_use, in_loss, *single = net.told
    torch.testing.assert_close(in_use, expected, rtol=1e-15, atol=0)
    assert torch.equal(in_use, in_loss)
    assert torch.equal(torch.cat(single), in_use)


@dataclass(frozen=True)
class Thousand(EDM):
    """A process whose time is far from one unit."""

    def unit_label(self, level):
        return level.t


def test_labels_further_apart_than_a_network_tells_apart_are_refused_where_a_denoiser_is_made():
    named = r"Unit takes labels within 8 of each other, but those of Thousand.* are 0.002 to 80; give"
    with pytest.raises(ValueError, match=named):
        Denoiser(Unit(), Thousand(), v)
    Denoiser(Unit(), Thousand(), edm())  # which says itself what the network is told
    Denoiser(Unit(), Thousand(1.0, 8.0), v)
    Denoiser(Recorder(), Thousand(), v)


# ------------------------------------------------------------------------------------- another process


def exact(sde, s=0.7):
    """The denoiser of N(0, s^2) data, as a network that estimates x_0."""

    def net(x, t):
        alpha, sigma = (wide(number, x) for number in (sde.alpha(t), sde.sigma(t)))
        return alpha * s**2 / ((s * alpha) ** 2 + sigma**2) * x

    return Denoiser(net, sde, data)


@pytest.mark.parametrize("new", SDES.values(), ids=SDES.keys())
@pytest.mark.parametrize("trained", [VPSDE(), EDM(), RectifiedFlow()], ids=["vp", "edm", "rectified-flow"])
def test_an_exact_denoiser_transported_is_the_exact_one_of_the_new_process(trained, new):
    denoiser = Transported(exact(trained), new)
    x = draw((3, 2), 0)
    assert new.t_min <= denoiser.sde.t_min < denoiser.sde.t_max <= new.t_max
    for place in (0.0, 0.3, 1.0):
        t = denoiser.sde.t_min + place * (denoiser.sde.t_max - denoiser.sde.t_min)
        level = Level(*torch.stack(new.level(torch.tensor(t, dtype=torch.float64))).tolist())
        # lam goes through an inverse: a few roundings of it and of x / alpha.
        expected = level.alpha * 0.49 / (level.alpha**2 * 0.49 + level.sigma**2) * x
        torch.testing.assert_close(denoiser(x, level), expected, rtol=1e-11, atol=0)


def test_processes_without_a_common_level_are_refused():
    with pytest.raises(ValueError, match="lam_min and lam_max must leave a part of"):
        Transported(exact(EDM(t_min=0.002, t_max=0.01)), EDM(t_min=1.0, t_max=80.0))


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("net", "got"),
    [
        (lambda x, t: x[:, :1], r"\(4, 1\) torch.float32"),
        (lambda x, t: torch.cat([x, x], 1), r"\(4, 4\) torch.float32"),
        (lambda x, t: x.sum(1), r"\(4,\) torch.float32"),
        (lambda x, t: x[:1], r"\(1, 2\) torch.float32"),
        (lambda x, t: x.double(), r"\(4, 2\) torch.float64"),
        (lambda x, t: x.long(), r"\(4, 2\) torch.int64"),
    ],
)
def test_an_output_of_another_shape_or_type_is_refused(net, got):
    x, t = torch.ones(4, 2), torch.full((4,), 0.5)
    denoiser = Denoiser(net, VPSDE(), noise)
    match = rf"must return the shape and type of its input, \(4, 2\) torch.float32, got {got}"
    with pytest.raises(ValueError, match=match):
        denoiser(x, VPSDE().level(t))
    with pytest.raises(ValueError, match=match):
        denoiser.loss(x, t, x)


def test_an_output_that_is_no_tensor_is_refused():
    denoiser = Denoiser(lambda x, t: (x, t), VPSDE(), noise)
    with pytest.raises(TypeError, match="the network must return a tensor, got tuple"):
        denoiser(torch.ones(4, 2), VPSDE().level(torch.tensor(0.5)))


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ((None, VPSDE(), noise), "a callable net, got NoneType"),
        ((Recorder(), 7, noise), "an SDE or its name, got int"),
        ((Recorder(), VPSDE(), 7), "a function or a name, got int"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments, got):
    with pytest.raises(TypeError, match=got):
        Denoiser(*arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, "float32"])
def test_precisions_that_are_none_are_refused(dtype):
    with pytest.raises(ValueError, match=r"dtype must be one of None, torch.float32, .*, got"):
        Denoiser(Recorder(), VPSDE(), noise, dtype=dtype)


# ------------------------------------------------------------------------------------- networks of others


def test_a_unet_of_diffusers_plugs_in_unchanged():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ).double()
    scheduler = diffusers.DDIMScheduler(1000, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(1000)
    sde = DiscreteVPSDE()
    denoiser = Denoiser(lambda x, t: unet(x, t).sample, sde, noise)
    x = draw((2, 1, 8, 8), 1)
    for step in (0, 499, 999):
        level = Level(*torch.stack(sde.level(torch.tensor((step + 1) / 1000, dtype=torch.float64))).tolist())
        with torch.no_grad():
            ours = denoiser(x, level)
            eps = unet(x, step).sample
            theirs = scheduler.step(eps, step, x).pred_original_sample
        # Told the integer, their network returns the same bits; ours is a few roundings of x / alpha away.
        exact = (x - level.sigma * eps) / level.alpha
        torch.testing.assert_close(ours, exact, rtol=1e-13, atol=1e-14 / level.alpha)
        # Their alpha is a float32 product of 1000 factors: relative 1e-4 of terms of the size of x / alpha.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * 4 / level.alpha)
