"""Processes, predictions and a network that records its calls, for the tests of denoisers."""

import pytest
import torch

from scoresde.denoisers.predictions import data, edm, noise, score, v, velocity
from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE

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


class Recorder:
    """A callable that notes what it is called with, and returns zeros."""

    def __init__(self):
        self.calls = []

    def __call__(self, x, t, *cond):
        self.calls.append((x, t, *cond))
        return torch.zeros_like(x)
