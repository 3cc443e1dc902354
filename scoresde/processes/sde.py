"""Diffusion processes x_t = alpha_t x_0 + sigma_t eps, with t running from data (0) to noise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from .level import Level, T


class SDE(ABC):
    """A linear diffusion dx = f(t) x dt + g(t) dw with marginals x_t | x_0 ~ N(alpha_t x_0, sigma_t^2).

    A subclass defines log alpha, log sigma and the ends ``t_min < t_max`` of its time. All else follows from
    these. Logarithms keep all digits near the ends. Times are tensors of any shape, best in float64. A
    function of time alone returns the shape and type of the time; a function of samples x returns the type of
    x. Source of the general formulas: Song et al. 2021 (arXiv 2011.13456, equations 5, 6, 13, 29), Kingma et
    al. 2021 (arXiv 2107.00630) for f and g by alpha and sigma.
    """

    t_min: float
    t_max: float

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha_t."""

    @abstractmethod
    def log_sigma(self, t: Tensor) -> Tensor:
        """log sigma_t."""

    def label(self, t: T) -> T:
        """The label of the time t that a network receives; t itself by default."""
        return t

    def unit_label(self, level: Level[T]) -> T:
        """The label of a level within about one unit, for networks with a ``label_span``; t by default."""
        return level.t

    def alpha(self, t: Tensor) -> Tensor:
        """alpha_t, the factor of the data."""
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_t, the factor of the noise."""
        return self.log_sigma(t).exp()

    def lam(self, t: Tensor) -> Tensor:
        """Half log-SNR, log(alpha_t / sigma_t), strictly falling in t."""
        return self.log_alpha(t) - self.log_sigma(t)

    def level(self, t: Tensor) -> Level[Tensor]:
        """The level at the time t: t, alpha, sigma and lam."""
        log_alpha, log_sigma = self.log_alpha(t), self.log_sigma(t)
        return Level(t, log_alpha.exp(), log_sigma.exp(), log_alpha - log_sigma)

    def lam_at(self, t: float) -> float:
        """The half log-SNR at a time."""
        return self.lam(torch.tensor(t, dtype=torch.float64)).item()

    def lam_ends(self) -> tuple[float, float]:
        """The half log-SNRs at ``t_max``, which may be -infinity, and at ``t_min``: the lower one first."""
        return self.lam_at(self.t_max), self.lam_at(self.t_min)

    def levels(self, times: Tensor) -> tuple[Level[float], ...]:
        """The levels at times ``(n,)``, best in float64, as numbers of the host."""
        return tuple(Level(*row) for row in torch.stack(self.level(times), 1).tolist())

    def level_at(self, t: float) -> Level[float]:
        """The level at a time, as numbers of the host; a run begins with the level at ``t_max``."""
        return self.levels(torch.tensor([t], dtype=torch.float64))[0]

    def level_of(self, lam: float) -> Level[float]:
        """The level of a half log-SNR, as numbers of the host."""
        return self.levels(self.time_of(torch.tensor([lam], dtype=torch.float64)))[0]

    def time_of(self, lam: Tensor) -> Tensor:
        """The t of a half log-SNR, the inverse of :meth:`lam`; by bisection, unless overridden."""
        low, high = torch.full_like(lam, self.t_min / 2), torch.full_like(lam, self.t_max)
        for _ in range(80):
            mid = (low + high) / 2
            noisier = self.lam(mid) < lam
            low, high = torch.where(noisier, low, mid), torch.where(noisier, mid, high)
        return (low + high) / 2

    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d log alpha / dt."""
        return _derivative(self.log_alpha, t)

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)^2 = -2 sigma_t^2 dlam / dt."""
        return -2 * self.sigma(t) ** 2 * _derivative(self.lam, t)

    def marginal(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of x_t given x_0; x0 ``(B, ...)``, t ``(B,)``; both broadcast with x0."""
        level = self.level(self._times(t, x0))
        return level.alpha.to(x0) * x0, level.sigma.to(x0)

    def marginal_sample(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """alpha_t x_0 + sigma_t eps."""
        mean, std = self.marginal(x0, t)
        return mean + std * eps

    def marginal_log_density(self, x: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """log p(x_t = x | x_0) in nats, ``(B,)``."""
        mean, std = self.marginal(x0, t)
        return _normal_log_density((x - mean) / std, std)

    def prior_sample(self, eps: Tensor) -> Tensor:
        """A draw from N(0, sigma^2) at t_max, the start of a run, from standard normal eps."""
        return self.sigma(torch.tensor(self.t_max, dtype=torch.float64)).to(eps.dtype) * eps

    def prior_log_density(self, x: Tensor) -> Tensor:
        """log density of the prior in nats, ``(B,)``."""
        std = self.sigma(torch.tensor(self.t_max, dtype=torch.float64)).to(x.dtype)
        return _normal_log_density(x / std, std)

    def reverse_drift(self, x: Tensor, t: Tensor, score: Tensor, eta: float = 1.0) -> Tensor:
        """Drift of the reverse SDE, f x - (1 + eta^2) / 2 g^2 score, with noise eta g dw (eq. 6: eta = 1)."""
        t = self._times(t, x)
        on_score = (1 + eta**2) / 2 * self.diffusion2(t)
        drift: Tensor = self.drift(t).to(x) * x - on_score.to(x) * score
        return drift

    def ode_drift(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        """Drift of the probability-flow ODE, f x - g^2 score / 2 (eq. 13)."""
        return self.reverse_drift(x, t, score, eta=0.0)

    def clip(self, lam_min: float, lam_max: float) -> Self:
        """The same process on the part of its time where the half log-SNR is in [lam_min, lam_max].

        Use it for a network trained on this range only.

        Raises:
            ValueError: the part is empty.
        """
        ends = torch.tensor([self.t_min, self.t_max], dtype=torch.float64)
        cleanest, noisiest = self.lam(ends).tolist()
        first, last = max(lam_min, noisiest), min(lam_max, cleanest)
        if not first < last:
            raise ValueError(
                f"lam_min and lam_max must leave a part of [{noisiest:.4g}, {cleanest:.4g}], "
                f"got {lam_min}, {lam_max}"
            )
        t_max, t_min = self.time_of(torch.tensor([first, last], dtype=torch.float64)).tolist()
        # An end inside the range stays the same number, free of the rounding of time_of.
        t_min = self.t_min if last == cleanest else t_min
        t_max = self.t_max if first == noisiest else t_max
        return replace(self, t_min=t_min, t_max=t_max)  # type: ignore[type-var]

    def _times(self, t: Tensor, x: Tensor) -> Tensor:
        """t, ``()`` or ``(B,)``, in a shape that broadcasts with x; ValueError for others or out of range."""
        if t.ndim not in (0, 1) or (t.ndim == 1 and len(t) != len(x)):
            raise ValueError(
                f"t must be one number or {len(x)}, one for every sample, got shape {tuple(t.shape)}"
            )
        if t.numel() and not (self.t_min <= t.min() and t.max() <= self.t_max):
            raise ValueError(
                f"t must be in [{self.t_min}, {self.t_max}], got {t.min().item():.6g} to {t.max().item():.6g}"
            )
        return t.reshape(-1, *[1] * (x.ndim - 1)) if t.ndim else t


def _derivative(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        t = t.detach().clone().requires_grad_()
        return torch.autograd.grad(f(t).sum(), t)[0]


def _normal_log_density(z: Tensor, std: Tensor) -> Tensor:
    # A sample may be a single number: [:, None] gives each sample an axis to sum over.
    return (-0.5 * z**2 - std.log() - 0.5 * math.log(2 * math.pi))[:, None].flatten(1).sum(1)
