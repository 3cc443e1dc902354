"""A network and a run, to be given bad input."""

from typing import Any

import torch
from torch import Tensor

from scoresde import (
    SDE,
    VPSDE,
    Denoiser,
    Plan,
    predict,
    sample,
)
from scoresde.denoisers.predictions import Prediction
from scoresde.solvers import DDIM


class Net(torch.nn.Module):
    """A network that no test here may call; it knows ten classes, and the eleventh for none."""

    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        return 0 * x


NET = Net()
VP = VPSDE()


def denoiser(sde: SDE = VP, prediction: Prediction = predict.noise) -> Denoiser:
    return Denoiser(NET, sde, prediction)


def draw(solver: Any = "ddim", shape: Any = (3, 2), of: Any = None, **options: Any) -> Any:
    return sample(of or denoiser(), solver, shape, **({"nfe": 4} | options))


PLAN = Plan.make(DDIM(), VP, 3)
