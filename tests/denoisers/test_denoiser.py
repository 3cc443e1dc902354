"""The inputs of a network in a denoiser, and the checks of its outputs."""

import pytest
import torch

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import data, edm, noise
from scoresde.processes.continuous import VPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.processes.level import Level
from tests.denoisers.cases import CHOSEN, SHAPES, Recorder, draw, every_prediction, every_sde, times, wide


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_sde
def test_the_network_receives_one_label_for_each_sample(sde, dtype):
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
            ((shown, received),) = net.calls
            assert (shown.dtype, received.dtype, received.shape) == (dtype, dtype, (3,)), how
            assert torch.equal(received, expected.to(dtype)), how


def test_a_network_trained_on_steps_receives_their_exact_numbers():
    sde, net = DiscreteVPSDE(), Recorder()
    denoiser = Denoiser(net, sde, noise)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    denoiser.loss(torch.zeros(1000, 1), t, torch.zeros(1000, 1))
    for index in range(0, 1000, 37):
        denoiser(torch.zeros(1, 1), Level(*torch.stack(sde.level(t[index])).tolist()))
    in_loss, *single = [received for _, received in net.calls]
    assert in_loss.tolist() == list(range(1000))
    assert [received.item() for received in single] == list(range(0, 1000, 37))


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
def test_a_condition_is_an_argument_only_if_there_is_one(seen):
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


def test_an_output_that_is_not_a_tensor_is_refused():
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
def test_other_precisions_are_refused(dtype):
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
        # For the integer, both networks return the same bits; ours is a few roundings of x / alpha away.
        exact = (x - level.sigma * eps) / level.alpha
        torch.testing.assert_close(ours, exact, rtol=1e-13, atol=1e-14 / level.alpha)
        # Their alpha is a float32 product of 1000 factors: relative 1e-4 of terms of the size of x / alpha.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * 4 / level.alpha)
