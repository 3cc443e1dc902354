"""How far samples are from a mixture of normal distributions: sliced W2 and covariance, both exact for it."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import Tensor

from scoresde.denoisers.mixture import Mixture
from scoresde.processes.level import Level

DIRECTIONS, POINTS = 32, 10_001
Array = npt.NDArray[np.float64]


class Law(NamedTuple):
    """A law on a line: points, and its distribution function there."""

    points: Array
    function: Array

    def quantiles(self, n: int) -> Array:
        """The quantiles (i + 1/2) / n, against which the sorted numbers of n samples stand."""
        return np.interp((np.arange(n) + 0.5) / n, self.function, self.points)


def law_of(means: Array, stds: Array, shares: Array, points: int = POINTS) -> Law:
    """The law of a mixture of normal distributions on a line, ``(K,)`` each."""
    at = np.linspace((means - 8 * stds).min(), (means + 8 * stds).max(), points)
    return Law(at, ndtr((at[:, None] - means) / stds) @ shares)


class MixtureDistance:
    """Distances of samples in two dimensions from a mixture at a noise level.

    Args:
        mixture: the data.
        level: of the samples.
    """

    def __init__(self, mixture: Mixture, level: Level[float]) -> None:
        data = mixture.moments()[1]
        self.covariance = level.alpha**2 * data + level.sigma**2 * torch.eye(len(data), dtype=torch.float64)
        angles = torch.arange(DIRECTIONS, dtype=torch.float64) * (math.pi / DIRECTIONS)
        self.directions = torch.stack([angles.cos(), angles.sin()], 1)
        stds = np.hypot(level.alpha * mixture.stds.double().numpy(), level.sigma)
        shares = mixture.shares.double().numpy()
        self.laws = []  # of the projections
        for direction in self.directions:
            means = level.alpha * (mixture.means.double() @ direction).numpy()
            self.laws.append(law_of(means, stds, shares))

    def sliced_w2(self, x: Tensor) -> float:
        """The root mean square over directions of W2 between the projections of x and of the mixture.

        The sorted projections of n samples stand against the quantiles (i + 1/2) / n.
        """
        squares = []
        for direction, law in zip(self.directions, self.laws, strict=True):
            projected = (x.double() @ direction).sort().values.numpy()
            squares.append(np.square(projected - law.quantiles(len(x))).mean())
        return math.sqrt(np.mean(squares))

    def covariance_error(self, x: Tensor) -> float:
        """The Frobenius norm of the error of the covariance, over the norm of the exact one."""
        error = torch.cov(x.double().T) - self.covariance
        return float(torch.linalg.norm(error) / torch.linalg.norm(self.covariance))
