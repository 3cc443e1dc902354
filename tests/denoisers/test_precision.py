"""The precision of a network."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import noise, v
from scoresde.denoisers.transported import Transported
from scoresde.networks import MLP, UNet
from scoresde.processes.continuous import EDM, VPSDE, Cosine
from scoresde.processes.discrete import DiscreteVPSDE
from tests.denoisers.cases import CHOSEN, Recorder, draw, every_prediction, times


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_low_precision_is_the_network_s_alone(low, dtype):
    seen = {}
    layer = torch.nn.Linear(2, 2)

    def net(x, t):
        seen.update(shown=x.dtype, received=t.dtype, inside=layer(x).dtype)
        return 0 * layer(x)

    x = draw((4, 2), 0, dtype)
    level = VPSDE().level(torch.tensor(0.5, dtype=torch.float64))
    estimate = Denoiser(net, VPSDE(), v, dtype=low)(x, level)
    assert seen == {"shown": torch.float32, "received": torch.float32, "inside": low}
    # What passes by the network, skip x, keeps the precision of x: rounding of one product.
    expected = (level.alpha / (level.alpha**2 + level.sigma**2)) * x.double()
    torch.testing.assert_close(estimate.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert estimate.dtype == dtype


def test_the_network_receives_its_input_in_its_precision():
    net = Recorder()
    level = VPSDE().level(torch.tensor(0.5))
    estimate = Denoiser(net, VPSDE(), v, dtype=torch.float64)(torch.ones(2, 3), level)
    ((shown, received),) = net.calls
    assert (shown.dtype, received.dtype, estimate.dtype) == (torch.float64, torch.float64, torch.float32)


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


def test_a_transported_denoiser_has_the_precision_of_the_denoiser_inside():
    inner = Denoiser(Recorder(), VPSDE(), noise, dtype=torch.bfloat16)
    assert Transported(Transported(inner, EDM()), Cosine()).dtype == torch.bfloat16
