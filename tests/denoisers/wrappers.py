"""A network, denoisers of users, and wrappers of each kind."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from scoresde import (
    EDM,
    VPSDE,
    Counted,
    Denoiser,
    Guided,
    Level,
    Mixture,
    Transported,
    predict,
)
from scoresde.conditioning import Thresholded
from scoresde.denoisers.protocol import (
    Watched,
    Wrapper,
)

LEVEL = Level(*(number.item() for number in VPSDE().level(torch.tensor(0.5, dtype=torch.float64))))
DATA = Mixture(torch.tensor([[1.0, -1.0]]), torch.tensor([0.5]), torch.tensor([1.0]))


class Net(nn.Module):
    """A network of 3 classes."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.5, -0.2], [0.1, 0.3]]))
            self.layer.bias.copy_(torch.tensor([0.1, 0.2]))

    def forward(self, x, t, cond=None):
        y = self.layer(x).to(x.dtype)
        return y if cond is None else y + 0.1 * cond[:, None]


class Scaled(Wrapper):
    """A user's wrapper: a factor on the estimate."""

    def __init__(self, denoiser, factor):
        self.denoiser, self.factor = denoiser, factor

    def at(self, dtype):
        return Scaled(self.denoiser.at(dtype), self.factor)

    def __call__(self, x, level, cond=None):
        return self.factor * self.denoiser(x, level, cond)


@dataclass(frozen=True)
class Minimal:
    """All that a user's denoiser must have. It takes no condition."""

    sde: object = VPSDE()

    def __call__(self, x, level):
        return DATA.denoise(x, level)


@dataclass(frozen=True)
class Around:
    """A user's class around a network, with its ``net`` and conditions."""

    net: nn.Module
    sde: object = VPSDE()

    def __call__(self, x, level, cond=None):
        return self.net(x, level.t, cond)


def trained(dtype=None):
    return Denoiser(Net().eval(), VPSDE(), predict.data, dtype=dtype)


def nothing(*_):
    pass


WRAPPERS = {
    "Watched": lambda inner: Watched(inner, nothing),
    "Counted": Counted,
    "Transported": lambda inner: Transported(inner, EDM()),
    "of a user": lambda inner: Scaled(inner, 1.5),
    "Guided": lambda inner: Guided(inner, Scaled(inner, 0.5), 1.5),
    "Thresholded": lambda inner: Thresholded(inner, 2.0, 0.9),
    "two": lambda inner: Scaled(Counted(inner), 2.0),
    "three": lambda inner: Counted(Transported(Scaled(inner, 2.0), EDM())),
    "two others": lambda inner: Transported(Transported(inner, EDM()), VPSDE()),
}
each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def values(denoiser, x, cond=None):
    """The estimate at one sigma / alpha, whatever the process."""
    lam = torch.tensor(0.0, dtype=torch.float64)
    level = denoiser.sde.level(denoiser.sde.time_of(lam))
    return denoiser(x, Level(*(number.item() for number in level)), cond)
