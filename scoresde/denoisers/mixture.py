"""Mixtures of normal distributions, whose denoiser has a closed form."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..devices import exact
from ..processes.level import Level, cast, per_sample
from .full_mixture import FullMixture


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of isotropic normal distributions, sum_k w_k N(m_k, s_k^2).

    At a noise level it is a mixture of N(alpha m_k, alpha^2 s_k^2 + sigma^2), so its score and its denoiser
    are exact.

    Args:
        means: m, ``(K, D)``.
        stds: s, ``(K,)``.
        shares: w, ``(K,)``, with sum 1.

    Raises:
        ValueError: other shapes; a negative deviation or share; another sum of the shares.
    """

    means: Tensor
    stds: Tensor
    shares: Tensor

    def __post_init__(self) -> None:
        k = len(self.means)
        if self.means.ndim != 2 or self.stds.shape != (k,) or self.shares.shape != (k,):
            raise ValueError(
                f"means must be (K, D) and stds and shares (K,), got {tuple(self.means.shape)}, "
                f"{tuple(self.stds.shape)}, {tuple(self.shares.shape)}"
            )
        if not (self.stds.min() >= 0 and self.shares.min() >= 0 and abs(self.shares.sum().item() - 1) < 1e-6):
            raise ValueError("stds and shares must not be negative, and shares must sum to 1")

    def denoise(self, x: Tensor, level: Level[Any]) -> Tensor:
        """E[x_0 | x_t = x] for x ``(B, D)``, in its type; level: floats, or tensors ``(B,)``."""
        means, stds = self.means.to(x), self.stds.to(x)
        alpha, sigma = (cast(per_sample(number, x), x) for number in (level.alpha, level.sigma))
        gain = alpha * stds**2 / ((alpha * stds) ** 2 + sigma**2)
        # m_k + gain_k (x - alpha m_k), weighted by the posterior probability of each component
        weight = self._log_parts(x, level).softmax(1)
        mean: Tensor = (weight * gain).sum(1, keepdim=True) * x + (weight * (1 - gain * alpha)) @ means
        return mean

    def log_density(self, x: Tensor, level: Level[Any]) -> Tensor:
        """log p_t(x) in nats, ``(B,)``, for x ``(B, D)``."""
        return self._log_parts(x, level).logsumexp(1)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n draws of the data, ``(n, D)``, in the type of the means."""
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.shares.double(), n, replacement=True, generator=draw)
        eps = torch.randn(n, self.means.shape[1], generator=draw, dtype=self.means.dtype)
        return self.means[chosen] + self.stds[chosen, None] * eps

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(D,)`` and covariance ``(D, D)`` of the data, in float64."""
        means, stds, shares = exact(self.means), exact(self.stds), exact(self.shares)
        mean = shares @ means
        away = means - mean
        spread = (shares * stds**2).sum() * torch.eye(
            means.shape[1], dtype=torch.float64, device=means.device
        )
        return mean, away.mT @ (shares[:, None] * away) + spread

    def full(self) -> FullMixture:
        """The same mixture with its covariances s_k^2 I written out."""
        k, d = self.means.shape
        unit = torch.eye(d, dtype=self.means.dtype, device=self.means.device)
        variances = self.stds.square()[:, None].expand(k, d)
        return FullMixture(self.means, unit.expand(k, d, d), variances, self.shares.log())

    def condition(self, operator: Any, y: Tensor, tau: float) -> FullMixture:
        """The posterior given y = A x + tau n; see :meth:`FullMixture.condition`."""
        return self.full().condition(operator, y, tau)

    def _log_parts(self, x: Tensor, level: Level[Any]) -> Tensor:
        """log (w_k N(x; alpha m_k, var_k)), ``(B, K)``."""
        means, stds, shares = (value.to(x) for value in (self.means, self.stds, self.shares))
        alpha, sigma = (cast(per_sample(number, x), x) for number in (level.alpha, level.sigma))
        var = (alpha * stds) ** 2 + sigma**2
        if isinstance(alpha, Tensor):
            square = (x[:, None] - alpha[:, None] * means).square().sum(2)
        else:
            square = torch.cdist(x, alpha * means, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        norm = shares.log() - 0.5 * means.shape[1] * torch.log(2 * math.pi * var)
        parts: Tensor = norm - 0.5 * square / var
        return parts
