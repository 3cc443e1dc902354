"""Weightings: the factor on the loss at each noise level."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..processes.level import Level
from ..registry import as_floats

# The factor on Denoiser.loss, the squared error of the network's own output, at a level. An error d of the
# estimate of x_0 is an error d / out of the output; so out^2 w weighs the squared error of x_0 by w.
Weighting = Callable[[Denoiser, Level[Tensor]], Tensor]


@dataclass(frozen=True)
class Plain:
    """1: DDPM's simple loss for a noise prediction (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""

    def __call__(self, denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        return torch.ones_like(level.t)


@dataclass(frozen=True)
class Likelihood:
    """g^2 on the squared error of the *score*: a bound of the likelihood.

    Song et al. 2021, arXiv 2101.09258, eq. 7. An error d of x_0 is an error alpha d / sigma^2 of the score.
    """

    def __call__(self, denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        score = level.alpha / level.sigma**2
        return denoiser.sde.diffusion2(level.t) * (_out(denoiser, level) * score) ** 2


@dataclass(frozen=True)
class EDMWeighting:
    """(r^2 + d^2) / (r d)^2 on the squared error of x_0, r = sigma / alpha.

    This is the factor 1 on the output of a network preconditioned with the same d (Karras et al. 2022, arXiv
    2206.00364, Table 1).

    Args:
        sigma_data: d, the standard deviation of the data, positive.

    Raises:
        ValueError: ``sigma_data`` not positive or not finite.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        as_floats(self, "sigma_data")
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive and finite, got {self.sigma_data!r}")

    def __call__(self, denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        ratio, d = level.sigma / level.alpha, self.sigma_data
        return _out(denoiser, level) ** 2 * (ratio**2 + d**2) / (ratio * d) ** 2


@dataclass(frozen=True)
class MinSNR:
    """min(SNR, gamma) on the squared error of x_0, SNR = (alpha / sigma)^2.

    Hang et al. 2023, arXiv 2303.09556.

    Args:
        gamma: the largest weight, positive; infinity leaves the SNR.

    Raises:
        ValueError: ``gamma`` not positive.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        as_floats(self, "gamma")
        if not self.gamma > 0:
            raise ValueError(f"gamma must be positive, got {self.gamma!r}")

    def __call__(self, denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        return _out(denoiser, level) ** 2 * torch.exp(2 * level.lam).clamp(max=self.gamma)


def _out(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
    out: Tensor = denoiser.prediction(level).out * torch.ones_like(level.t)
    return out


WEIGHTINGS: dict[str, Any] = {
    "plain": Plain,
    "likelihood": Likelihood,
    "edm": EDMWeighting,
    "min-snr": MinSNR,
}
