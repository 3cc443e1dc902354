"""Labels within about one unit, for networks that ask for them."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm, v
from scoresde.networks import MLP, UNet
from scoresde.processes.continuous import EDM
from scoresde.processes.level import Level
from tests.denoisers.cases import CHOSEN, Recorder, every_prediction, every_sde, times


class Unit(torch.nn.Module):
    """A network for labels within 8 units, which records the labels that it receives."""

    label_span = 8.0

    def __init__(self):
        super().__init__()
        self.received = []

    def forward(self, x, t):
        self.received.append(t)
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
def test_a_network_with_a_span_receives_labels_of_about_one_unit(sde, name, wrap):
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
    in_use, in_loss, *single = net.received
    torch.testing.assert_close(in_use, expected, rtol=1e-15, atol=0)
    assert torch.equal(in_use, in_loss)
    assert torch.equal(torch.cat(single), in_use)


@dataclass(frozen=True)
class Thousand(EDM):
    """A process whose time is far from one unit."""

    def unit_label(self, level):
        return level.t


def test_labels_beyond_the_span_of_a_network_are_refused_at_construction():
    named = r"Unit takes labels within 8 of each other, but those of Thousand.* are 0.002 to 80; give"
    with pytest.raises(ValueError, match=named):
        Denoiser(Unit(), Thousand(), v)
    Denoiser(Unit(), Thousand(), edm())  # its label is no label of the SDE
    Denoiser(Unit(), Thousand(1.0, 8.0), v)
    Denoiser(Recorder(), Thousand(), v)
