"""What an error counts at each noise level."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..processes.level import Level

# The factor on Denoiser.loss, the squared error of the network's own output, at a level. An error d of the
# estimate of x_0 is one of d / out in the output; so ``out^2 w`` weighs the squared error of x_0 with w.
Weighting = Callable[[Denoiser, Level[Tensor]], Tensor]


def plain(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
    """1: DDPM's simple loss for a noise prediction (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""
    return torch.ones_like(level.t)


def likelihood(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
    """g^2 on the squared error of the *score*: a bound of the likelihood.

    Song et al. 2021, arXiv 2101.09258, eq. 7. An error d of x_0 is one of alpha d / sigma^2 in the score.
    """
    score = level.alpha / level.sigma**2
    return denoiser.sde.diffusion2(level.t) * (_out(denoiser, level) * score) ** 2


def edm(sigma_data: float = 0.5) -> Weighting:
    """(r^2 + d^2) / (r d)^2 on the squared error of x_0, r = sigma / alpha.

    1 on the output of a network preconditioned with the same ``sigma_data`` d (Karras et al. 2022, arXiv
    2206.00364, Table 1).
    """
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data must be positive and finite, got {sigma_data!r}")

    def weighting(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        ratio = level.sigma / level.alpha
        return _out(denoiser, level) ** 2 * (ratio**2 + sigma_data**2) / (ratio * sigma_data) ** 2

    return weighting


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(SNR, gamma) on the squared error of x_0, SNR = (alpha / sigma)^2.

    Hang et al. 2023, arXiv 2303.09556.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma!r}")

    def weighting(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
        return _out(denoiser, level) ** 2 * torch.exp(2 * level.lam).clamp(max=gamma)

    return weighting


def _out(denoiser: Denoiser, level: Level[Tensor]) -> Tensor:
    out: Tensor = denoiser.prediction(level).out * torch.ones_like(level.t)
    return out


WEIGHTINGS: dict[str, Callable[..., Weighting]] = {
    "plain": lambda: plain,
    "likelihood": lambda: likelihood,
    "edm": edm,
    "min-snr": min_snr,
}
