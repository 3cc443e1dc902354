"""Small trainings, and the data and networks for them."""

import pytest
import torch
from torch import nn

from scoresde.denoisers.network import Denoiser
from scoresde.networks import MLP
from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from scoresde.training import TrainingOptions, start, train

SDES = {
    "vp": VPSDE(),
    "sub-vp": SubVPSDE(),
    "ve": VESDE(),
    "cosine": Cosine(),
    "edm": EDM(),
    "rectified-flow": RectifiedFlow(),
    "ddpm": DiscreteVPSDE(),
}


every_sde = pytest.mark.parametrize("sde", SDES.values(), ids=SDES.keys())


def draw(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def even(n):
    """The middles of n equal parts of [0, 1]."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def run(net, sde, prediction, x, labels=None, *, steps=20, **options):
    """A trained state, and the losses on the way."""
    parts = {key: options.pop(key) for key in ("time_sampling", "weighting", "seed") if key in options}
    made = TrainingOptions(steps=steps, **{"batch_size": 16, "warmup": 5, "ema": 0.9} | options)
    state = start(Denoiser(net, sde, prediction), made)
    return state, list(train(state, x, labels, options=made, **parts))


def mlp(seed=0, **options):
    torch.manual_seed(seed)
    return MLP(**{"size": 2, "width": 16, "layers": 1} | options)


MEAN, STD = torch.tensor([0.4, -0.2]), torch.tensor([0.5, 0.8])


def gaussian(n):
    """Normal data in two independent directions, at the quantiles of each: its moments are exact to 1 / n."""
    normal = torch.special.ndtri(even(n))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return (MEAN + STD * torch.stack([normal, normal[order]], 1)).float()


def equal_states(a, b):
    def tensors(state):
        return [*state.denoiser.state_dict().values(), *state.average.state_dict().values()]

    return all(torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True))


class Dropping(nn.Module):
    """A network with dropout, which takes its numbers from the global random state."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x, t):
        return self.body(torch.cat([x, t[:, None]], 1))


def dropping():
    torch.manual_seed(0)
    return Dropping()


class Labels(nn.Module):
    """Notes the labels that it is given."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.seen, self.weight = classes, [], nn.Parameter(torch.zeros(1))

    def forward(self, x, t, cond=None):
        self.seen.append(cond)
        return self.weight * x


class Scaling(nn.Module):
    """x times a number that is learned, whatever its shape; with classes, which it does not look at."""

    def __init__(self, classes=0):
        super().__init__()
        self.classes, self.weight = classes, nn.Parameter(torch.full((1,), 0.1))

    def forward(self, x, t, cond=None):
        return self.weight * x
