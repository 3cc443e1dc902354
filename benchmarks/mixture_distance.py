"""How far samples are from a mixture of normal distributions: sliced W2 and covariance, both exact for it."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from scoresde.denoisers.mixture import Mixture
from scoresde.processes.level import Level

DIRECTIONS = 32


def sliced_w2(x: Tensor, mixture: Mixture, level: Level[float]) -> float:
    """The root mean square over directions of W2 between the projections of samples and of the mixture.

    Args:
        x: samples in two dimensions, ``(N, 2)``.
        mixture: the data.
        level: of the samples; the mixture is compared at this noise level.
    """
    angles = torch.arange(DIRECTIONS, dtype=torch.float64) * (math.pi / DIRECTIONS)
    squares = []
    for direction in torch.stack([angles.cos(), angles.sin()], 1):
        projected = (x.double() @ direction).sort().values.numpy()
        exact = _quantiles(mixture, level, direction, len(x))
        squares.append(np.square(projected - exact).mean())
    return math.sqrt(np.mean(squares))


def _quantiles(mixture: Mixture, level: Level[float], direction: Tensor, n: int) -> NDArray[np.float64]:
    """The quantiles (i + 1/2) / n of the projection: from its distribution function at many points."""
    means = level.alpha * (mixture.means.double() @ direction).numpy()
    stds = np.hypot(level.alpha * mixture.stds.double().numpy(), level.sigma)
    points = np.linspace((means - 8 * stds).min(), (means + 8 * stds).max(), 20_001)
    function = ndtr((points[:, None] - means) / stds) @ mixture.shares.double().numpy()
    return np.interp((np.arange(n) + 0.5) / n, function, points)


def covariance_error(x: Tensor, mixture: Mixture, level: Level[float]) -> float:
    """The Frobenius norm of the error of the covariance, over the norm of the exact one."""
    data = mixture.moments()[1]
    exact = level.alpha**2 * data + level.sigma**2 * torch.eye(len(data), dtype=torch.float64)
    away = x.double() - x.double().mean(0)
    return float(torch.linalg.norm(away.T @ away / (len(x) - 1) - exact) / torch.linalg.norm(exact))
