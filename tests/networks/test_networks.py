"""The networks that ship: what they take, what they depend on, and what they refuse."""

import math

import pytest
import torch

from scoresde.denoisers.mixture import Mixture
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import noise, v
from scoresde.networks import MLP, UNet
from scoresde.networks.embedding import Fourier, Sinusoidal
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.training import TrainingOptions, start, train
from scoresde.training.time_sampling import Uniform


def draw(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(net):
    """The network in float64 with random parameters, the zero ones of its last layers too."""
    generator = torch.Generator().manual_seed(1)
    net = net.double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            spread = 0.5 / math.sqrt(max(parameter[0].numel(), 1)) if parameter.ndim > 1 else 0.3
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return net


# A network with its options, and a shape that it takes.
NETWORKS = {
    "mlp": (MLP, {"size": 3, "width": 8, "layers": 2}, (3, 3)),
    "mlp, classes": (MLP, {"size": 3, "width": 8, "layers": 1, "classes": 4}, (5, 3)),
    "unet": (UNet, {"channels": (8,), "blocks": 1}, (3, 1, 4, 6)),
    "unet, 3 channels": (UNet, {"in_channels": 3, "channels": (8, 16), "blocks": 2}, (3, 3, 8, 4)),
    "unet, patch": (UNet, {"channels": (8, 16), "blocks": 1, "patch": 2, "classes": 4}, (2, 1, 12, 8)),
    "unet, 3 levels": (UNet, {"channels": (8, 16, 24), "blocks": 1}, (2, 1, 8, 12)),
    "unet, fourier": (UNet, {"channels": (16, 8), "blocks": 1, "embedding": "fourier"}, (2, 1, 4, 4)),
}


def every_network(test):
    return pytest.mark.parametrize(("kind", "options", "shape"), NETWORKS.values(), ids=NETWORKS.keys())(test)


@every_network
def test_the_output_is_like_the_input_and_each_sample_is_by_itself(kind, options, shape):
    net = shaken(kind(**options))
    x, t = draw(shape), torch.linspace(-1, 1, shape[0], dtype=torch.float64)
    cond = torch.arange(shape[0]) % 4 if net.classes else None
    out = net(x, t, cond)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    for i in range(shape[0]):
        one = slice(i, i + 1)
        alone = net(x[one], t[one], None if cond is None else cond[one])
        # The same sums, in an order that may depend on the batch.
        torch.testing.assert_close(out[one], alone, rtol=1e-10, atol=1e-12)


@every_network
def test_every_parameter_and_every_input_takes_part(kind, options, shape):
    net = shaken(kind(**options))
    x, t = draw(shape).requires_grad_(), torch.linspace(-1, 1, shape[0], dtype=torch.float64).requires_grad_()
    cond = torch.arange(shape[0]) % 4 if net.classes else None
    (net(x, t, cond) * draw(shape, 2)).sum().backward()
    for name, parameter in [*net.named_parameters(), ("x", x), ("t", t)]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-9, name


@every_network
def test_the_network_depends_on_the_level_after_a_few_steps_of_training(kind, options, shape):
    torch.manual_seed(0)
    net = kind(**options)
    x, low, high = draw(shape).float(), torch.zeros(shape[0]), torch.full((shape[0],), 0.3)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(3):  # the U-Net's zero layers wake up one after the other
        optimizer.zero_grad()
        (net(x, low) + 1).square().mean().add((net(x, high) - 2).square().mean()).backward()
        optimizer.step()
    assert (net(x, low) - net(x, high)).abs().max() > 1e-3


@every_network
def test_no_label_is_the_label_of_no_class(kind, options, shape):
    net = shaken(kind(**options | {"classes": 4}))
    x, t = draw(shape), torch.zeros(shape[0], dtype=torch.float64)
    none = net(x, t)
    assert torch.equal(net(x, t, torch.full((shape[0],), 4)), none)
    for label in range(4):
        away = (net(x, t, torch.full((shape[0],), label)) - none).abs().flatten(1).amax(1)
        assert (away > 1e-3).all()


def test_a_new_unet_returns_zero_for_every_input():
    net = UNet(1, (8, 16), 1, classes=3)
    assert net(draw((2, 1, 8, 8)).float(), torch.rand(2), torch.tensor([0, 3])).abs().max() == 0


def test_a_unet_sees_the_whole_image():
    """Attention at the lowest resolution: every pixel of the input has a part in one of the output."""
    net = shaken(UNet(1, (8, 16), 1, patch=2))
    x = draw((1, 1, 16, 16)).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x, torch.zeros(1, dtype=torch.float64))[0, 0, 0, 0], x)
    assert (gradient != 0).all()


def test_dropout_is_for_training_alone():
    net = shaken(UNet(1, (8,), 1, dropout=0.5))
    x, t = draw((2, 1, 4, 4)), torch.zeros(2, dtype=torch.float64)
    assert torch.equal(net(x, t), net(x, t))
    net.train()
    torch.manual_seed(0)
    assert not torch.equal(net(x, t), net(x, t))


def test_a_unet_keeps_its_weights_with_the_channels_last_and_takes_images_either_way():
    net = shaken(UNet(3, (8, 16), 1))
    assert net.enter.weight.is_contiguous(memory_format=torch.channels_last)
    x, t = draw((2, 3, 8, 8)), torch.zeros(2, dtype=torch.float64)
    turned = net(x.contiguous(memory_format=torch.channels_last), t)
    assert turned.abs().max() > 0.1
    # The same sums in another order.
    torch.testing.assert_close(turned, net(x, t), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------- features of the level


def test_sinusoidal_features_are_cos_and_sin_of_an_eighth_to_64_cycles():
    features = Sinusoidal(20).double()
    t = torch.linspace(-3, 3, 13, dtype=torch.float64)
    cycles = torch.tensor([2.0**k for k in range(-3, 7)], dtype=torch.float64)
    angles = 2 * math.pi * t[:, None] * cycles
    # The frequencies are kept in float32: relative 1e-6 of up to 1200 radians.
    torch.testing.assert_close(features(t), torch.cat([angles.cos(), angles.sin()], 1), rtol=0, atol=2e-3)
    assert features(t).shape == (13, 20)


def test_fourier_frequencies_are_drawn_normal_and_never_trained():
    torch.manual_seed(0)
    features = Fourier(8000, scale=3.0)
    assert list(features.parameters()) == []
    assert set(features.state_dict()) == {"freqs"}
    # A deviation of 4000 draws has the standard error 1 / sqrt(8000) = 0.011; 4 of these.
    assert features.freqs.std().item() == pytest.approx(2 * math.pi * 3.0, rel=0.045)
    assert abs(features.freqs.mean().item()) < 4 * 2 * math.pi * 3.0 / math.sqrt(4000)


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_features_in_low_precision_are_those_in_float32_rounded(low):
    features, t = Sinusoidal(20), torch.linspace(-1, 1, 9)
    exact = features(t)
    features.freqs = features.freqs.to(low)
    rounded = Sinusoidal(20)
    rounded.freqs = features.freqs.float()
    assert features(t).dtype == low
    assert torch.equal(features(t), rounded(t).to(low))
    # The lowest frequencies, 1/8 to 1 cycle, keep some digits.
    torch.testing.assert_close(features(t)[:, :4].float(), exact[:, :4], rtol=0, atol=0.04)


@pytest.mark.parametrize("prediction", [v, noise])
def test_a_network_that_ships_learns_under_numbered_steps(prediction):
    """Eight narrow modes on a circle: where labels alias, a network learns the average of many levels."""
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = 0.7 * torch.stack([angles.cos(), angles.sin()], 1)
    mixture = Mixture(means, torch.full((8,), 0.08).double(), torch.full((8,), 1 / 8).double())
    sde, options = DiscreteVPSDE(), TrainingOptions(steps=300, batch_size=128, lr=4e-3, warmup=20, ema=0.97)
    torch.manual_seed(0)
    state = start(Denoiser(MLP(2, 64, 2), sde, prediction), options)
    for _ in train(state, mixture.sample(4096).float(), options=options, time_sampling=Uniform()):
        pass
    lam = torch.linspace(-math.log(2.0), -math.log(0.05), 2000, dtype=torch.float64)
    level = sde.level(sde.time_of(lam))
    x = level.alpha[:, None] * mixture.sample(2000, seed=5) + level.sigma[:, None] * draw((2000, 2), 9)
    with torch.no_grad():
        error = (state.averaged(x, level) - mixture.denoise(x, level)).square().mean().item()
    # With labels 0 ... 999, the same network comes to 0.0206 (v) and 0.0079 (noise).
    assert error < 0.0065


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (MLP, {"size": 0}, "size, width .even. and layers must be positive .*, got 0, 128, 3, 0"),
        (MLP, {"width": 7}, "got 2, 7, 3, 0"),
        (MLP, {"layers": -1}, "got 2, 128, -1, 0"),
        (MLP, {"classes": -1}, "classes not negative, got 2, 128, 3, -1"),
        (UNet, {"in_channels": 0}, "in_channels, channels, blocks and patch must be positive"),
        (UNet, {"blocks": 0}, "in_channels, channels, blocks and patch must be positive"),
        (UNet, {"patch": 0}, "in_channels, channels, blocks and patch must be positive"),
        (UNet, {"channels": ()}, "in_channels, channels, blocks and patch must be positive"),
        (UNet, {"classes": -1}, "classes not negative"),
        (UNet, {"channels": (8, 12)}, r"channels must be multiples of 8, got \(8, 12\)"),
        (UNet, {"channels": (0,)}, r"channels must be multiples of 8, got \(0,\)"),
        (UNet, {"embedding": "furier"}, "embedding must be one of sinusoidal, fourier, got 'furier'"),
        (UNet, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        (UNet, {"dropout": math.nan}, r"dropout must be in \[0, 1\), got nan"),
    ],
)
def test_sizes_that_cannot_be_are_refused(kind, options, named):
    with pytest.raises(ValueError, match=named):
        kind(**options)


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (UNet(1, (8, 16), 1), (2, 1, 7, 8)),
        (UNet(1, (8, 16), 1), (2, 1, 8, 7)),
        (UNet(1, (8, 16), 1, patch=2), (2, 1, 8, 6)),
        (UNet(1, (8,), 1), (2, 3, 8, 8)),
        (UNet(1, (8,), 1), (2, 8, 8)),
        (UNet(1, (8,), 1), (2, 64)),
        (MLP(2, 8, 1), (2, 3)),
        (MLP(2, 8, 1), (2,)),
        (MLP(2, 8, 1), (2, 1, 2)),
    ],
)
def test_an_input_of_another_shape_is_refused_by_its_shape(net, shape):
    with pytest.raises(ValueError, match=r"x must be .*, got shape \(" + ", ".join(map(str, shape))):
        net(torch.zeros(shape), torch.zeros(2))


@pytest.mark.parametrize(("net", "shape"), [(UNet(1, (8,), 1), (2, 1, 8, 8)), (MLP(2, 8, 1), (2, 2))])
def test_labels_for_a_network_without_classes_are_refused(net, shape):
    with pytest.raises(ValueError, match="cond was given, but the network has no classes"):
        net(torch.zeros(shape), torch.zeros(2), torch.zeros(2, dtype=torch.long))
