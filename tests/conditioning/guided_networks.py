"""Small networks with classes, and laws with exact denoisers, for the tests of guidance."""

from typing import Any

import torch
from torch import Tensor

from scoresde import EDM, VPSDE, Denoiser, ExactDenoiser, Level, Mixture, predict
from scoresde.denoisers.protocol import DenoiserLike, as_denoiser
from scoresde.plans.growth import normal_gain
from scoresde.processes.level import column
from tests.problems import Net

LEVEL = VPSDE().level_at(0.5)
B = 5
LABELS = torch.tensor([0, 2, 1, 1, 0])
NONE = 3


class Classes(Net):
    """A network of 3 classes; each output depends on one sample only, to the bit."""

    classes = NONE


def network(weight: float = 0.3) -> Denoiser:
    return Denoiser(Classes(weight).requires_grad_(False).eval(), VPSDE(), predict.data)


def states(*shape: int, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(B, *(shape or (2,)), generator=draw, dtype=torch.float64)


def none_of(x: Tensor) -> Tensor:
    return torch.full((len(x),), NONE)


class Normal:
    """E[x_0 | x_t] of N(0, s^2) under EDM: linear, at floats or at a level for each sample."""

    sde = EDM()

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def __call__(self, x: Tensor, level: Level[Any]) -> Tensor:
        return column(normal_gain(level, self.deviation**2), x) * x


def normal(deviation: float) -> DenoiserLike:
    return as_denoiser(Normal(deviation))


SHORT = EDM(0.02, 20.0)
MEANS = torch.tensor([[1.0, 0.2], [-1.2, 0.5], [0.3, -0.8], [-0.2, 0.1]], dtype=torch.float64)
STDS = torch.tensor([0.3, 0.25, 0.4, 0.2], dtype=torch.float64)
SHARES = torch.tensor([0.3, 0.2, 0.1, 0.4], dtype=torch.float64)
PRIOR = Mixture(MEANS, STDS, SHARES)
CLASS = Mixture(MEANS[:2], STDS[:2], SHARES[:2] / SHARES[:2].sum())  # of probability 1/2


def of_prior() -> ExactDenoiser:
    return ExactDenoiser(PRIOR, SHORT)


def of_class() -> ExactDenoiser:
    return ExactDenoiser(CLASS, SHORT)
