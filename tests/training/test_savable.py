"""Which networks can be trained, and held by a checkpoint."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from training_runs import gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm, v
from scoresde.denoisers.transported import Transported
from scoresde.processes.continuous import EDM, VPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.training import TrainingOptions, check_savable, start
from scoresde.training.state import module
from scoresde.training.time_sampling import Uniform


def test_a_callable_that_is_no_module_cannot_be_trained():
    with pytest.raises(TypeError, match="only a module can be trained, got function"):
        start(Denoiser(lambda x, t: x, EDM(), edm()), TrainingOptions())


@pytest.mark.parametrize("wrap", [partial(torch.compile, backend="eager"), nn.DataParallel])
def test_a_wrapped_network_is_trained_and_its_weights_keep_their_names(wrap):
    x, labels = gaussian(64), torch.arange(64) % 3
    plain, _ = run(mlp(classes=3), DiscreteVPSDE(), v, x, labels, steps=3, time_sampling=Uniform())
    state, _ = run(wrap(mlp(classes=3)), DiscreteVPSDE(), v, x, labels, steps=3, time_sampling=Uniform())
    assert module(state.denoiser).state_dict().keys() == plain.denoiser.net.state_dict().keys()
    assert equal_weights(module(state.denoiser), module(plain.denoiser))
    assert equal_weights(state.average.module, plain.average.module)
    check_savable(state.denoiser)


def equal_weights(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_a_denoiser_is_trained():
    with pytest.raises(TypeError, match="only a Denoiser can be trained, got Transported"):
        start(Transported(Denoiser(mlp(), EDM(), edm()), VPSDE()), TrainingOptions())


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
        (with_buffer(torch.zeros(2, dtype=torch.complex128)), "mask has the type torch.complex128"),
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
