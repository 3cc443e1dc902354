"""How far draws are from exact posteriors: sliced W2, weights of the modes, spread, and residual."""

import math

import numpy as np
import torch
from mixture_distance import law_of
from posterior_problems import Problem
from torch import Tensor

from scoresde.processes.level import Level

DIRECTIONS, POINTS = 64, 2_001
FIGURES = ("w2", "weights", "spread", "residual")


class Truth:
    """The exact posteriors of several observations at a noise level, and the errors of draws.

    Args:
        problem: the prior and the matrix.
        tau: the deviation of the observations' noise.
        y: the observations, ``(B, m)``.
        level: of the draws.
        draws: how many of each posterior.
    """

    def __init__(self, problem: Problem, tau: float, y: Tensor, level: Level[float], draws: int) -> None:
        self.problem, self.y, self.level, self.draws = problem, y, level, draws
        given = problem.prior.given(problem.matrix, tau)
        self.posteriors, self.of_draws = given(y), given(y.repeat_interleave(draws, 0))
        self.means, data = self.posteriors.moments()
        noise = level.sigma**2 * torch.eye(data.shape[-1]).to(data)
        self.covariances = level.alpha**2 * data + noise
        self.deviations = self.covariances.diagonal(dim1=1, dim2=2).mean(1).sqrt()
        self.directions = _directions(data.shape[-1])
        self.quantiles = self._quantiles()

    def _quantiles(self) -> Tensor:
        """Those of each posterior along each direction, ``(B, directions, draws)``."""
        mixtures, level = self.posteriors, self.level
        along = (mixtures.axes.mT @ self.directions.mT).square()  # (K, D, directions)
        variances = level.alpha**2 * torch.einsum("kd,kdn->nk", mixtures.variances, along) + level.sigma**2
        stds, shares = variances.sqrt().numpy(), mixtures.shares.numpy()
        means = (level.alpha * mixtures.means @ self.directions.mT).mT.numpy()  # (B, directions, K)
        rows = [
            [law_of(m, s, share, POINTS).quantiles(self.draws) for m, s in zip(one, stds, strict=True)]
            for one, share in zip(means, shares, strict=True)
        ]
        return torch.from_numpy(np.array(rows))

    def figures(self, x: Tensor) -> dict[str, float | None]:
        """The errors of draws ``(B draws, D)``, the draws of an observation together; means over these.

        * w2: the root mean square over directions of W2 between the projections of the draws and of the
          posterior, over the posterior's deviation, RMS over dimensions.
        * weights: half the sum of the absolute errors of the weights of the components.
        * spread: the trace of the draws' covariance over the exact one.
        * residual: the mean of |y - A x|^2 over the exact one.

        A figure that is not finite is None.
        """
        draws = x.double().reshape(-1, self.draws, x.shape[1])
        projected = (draws @ self.directions.mT).mT.sort(-1).values
        w2 = (projected - self.quantiles).square().mean((1, 2)).sqrt() / self.deviations
        found = self.of_draws.responsibilities(x.double(), self.level)
        shares = found.reshape(-1, self.draws, found.shape[1]).mean(1)
        weights = (shares - self.posteriors.shares).abs().sum(1) / 2
        spread = draws.var(1).sum(1) / self.covariances.diagonal(dim1=1, dim2=2).sum(1)
        residual = self._residual(draws) / self.expected_residual()
        values = (w2, weights, spread, residual)
        figures = {name: value.mean().item() for name, value in zip(FIGURES, values, strict=True)}
        return {name: value if math.isfinite(value) else None for name, value in figures.items()}

    def _residual(self, draws: Tensor) -> Tensor:
        return (self.y[:, None] - draws @ self.problem.matrix.mT).square().sum(2).mean(1)

    def expected_residual(self) -> Tensor:
        """E |y - A x|^2 over each posterior, ``(B,)``."""
        matrix = self.problem.matrix
        away = self.y - self.level.alpha * self.means @ matrix.mT
        seen = matrix @ self.covariances @ matrix.mT
        return away.square().sum(1) + seen.diagonal(dim1=1, dim2=2).sum(1)

    def exact_draws(self, seed: int) -> Tensor:
        """Independent exact draws, ``(B draws, D)``: what the number of draws cannot tell is their error."""
        clean = self.posteriors.sample(self.draws, seed).flatten(0, 1)
        draw = torch.Generator().manual_seed(seed + 1)
        noise = torch.randn(clean.shape, generator=draw, dtype=clean.dtype)
        return self.level.alpha * clean + self.level.sigma * noise


def _directions(d: int) -> Tensor:
    """Unit vectors, ``(directions, D)``: equal angles in a plane, else random ones, always the same."""
    if d == 2:
        angles = torch.arange(DIRECTIONS, dtype=torch.float64) * (math.pi / DIRECTIONS)
        return torch.stack([angles.cos(), angles.sin()], 1)
    draw = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(DIRECTIONS, d, generator=draw, dtype=torch.float64))
