"""A warning for networks in training mode."""

import warnings

import pytest
import torch
from torch import nn

from scoresde import VPSDE, Denoiser, pc_sampler, predict, sample
from scoresde.denoisers.transported import Transported
from scoresde.networks import MLP
from scoresde.processes.continuous import EDM


class Net(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, t):
        return self.layer(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(2, 1, dropout=0.5)

    def forward(self, x):
        return self.inner(x, x, x)[0]


VARYING = {
    "dropout": lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)),
    "batch norm": lambda: nn.BatchNorm1d(2),
    "attention": Attention,
}


def messages(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    assert all(entry.filename == __file__ for entry in caught)
    return [str(entry.message) for entry in caught]


@pytest.mark.parametrize("layer", VARYING.values(), ids=VARYING)
@pytest.mark.parametrize("under", [None, EDM()], ids=["its own SDE", "another"])
def test_sampling_warns_of_a_network_in_training_mode(layer, under):
    net = Net(layer())
    denoiser = Denoiser(net, VPSDE(), predict.v)
    denoiser = Transported(denoiser, under) if under else denoiser
    (message,) = messages(lambda: sample(denoiser, "ddim", (4, 2), nfe=2))
    assert "the network is in training mode" in message
    assert "call its eval() first" in message
    net.eval()
    assert messages(lambda: sample(denoiser, "ddim", (4, 2), nfe=2)) == []


@pytest.mark.parametrize("net", [MLP(2, 8, 1), Net(nn.Dropout(0.0)), Net(nn.LayerNorm(2))])
def test_sampling_does_not_warn_of_layers_that_training_mode_does_not_change(net):
    denoiser = Denoiser(net.train(), VPSDE(), predict.v)
    assert messages(lambda: sample(denoiser, "ddim", (4, 2), nfe=2)) == []


def test_the_familiar_names_warn_too():
    with pytest.warns(UserWarning, match="the network is in training mode"):
        pc_sampler(Net(nn.Dropout(0.5)), VPSDE(), (4, 2), prediction=predict.v, nfe=2)
    assert torch.is_grad_enabled()
