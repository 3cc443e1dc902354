"""Diffusion processes x_t = alpha_t x_0 + sigma_t eps, with t running from data (0) to noise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", float, Tensor)


class Level(NamedTuple, Generic[T]):
    """One noise level: floats when a run is planned, tensors when a network is trained."""

    t: T
    alpha: T
    sigma: T
    lam: T  # log(alpha / sigma), the half log-SNR


CLEAN: Level[float] = Level(0.0, 1.0, 0.0, math.inf)


class SDE(ABC):
    """A linear diffusion dx = f(t) x dt + g(t) dw with marginals x_t | x_0 ~ N(alpha_t x_0, sigma_t^2).

    A subclass states log alpha and log sigma and the ends ``t_min < t_max`` of its time; the rest follows, so
    that nothing can disagree. In logarithms, for they lose no digits near the ends. Times are tensors of any
    shape, best in float64; functions of time alone have their shape and type, those of samples x the type of
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
        """What a network is told of the time t; t itself, unless it was trained on numbered steps."""
        return t

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
        """t with its alpha, sigma and lam."""
        log_alpha, log_sigma = self.log_alpha(t), self.log_sigma(t)
        return Level(t, log_alpha.exp(), log_sigma.exp(), log_alpha - log_sigma)

    def time_of(self, lam: Tensor) -> Tensor:
        """The t of a half log-SNR, the inverse of :meth:`lam`; by bisection where no closed form is known."""
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
        """A draw from N(0, sigma^2) at t_max, where a run starts, made of the standard normal eps."""
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

        For a network that was trained on that range only.
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
        # An end that was not cut stays what it was, to the last bit.
        t_min = self.t_min if last == cleanest else t_min
        t_max = self.t_max if first == noisiest else t_max
        return replace(self, t_min=t_min, t_max=t_max)  # type: ignore[type-var]

    def _times(self, t: Tensor, x: Tensor) -> Tensor:
        """t, one for every sample of x or one for all, in a shape that broadcasts with x."""
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
    # A sample may be a single number: [:, None] gives every one an axis to sum over.
    return (-0.5 * z**2 - std.log() - 0.5 * math.log(2 * math.pi))[:, None].flatten(1).sum(1)


def _check_range(
    sde: SDE, name: str, low: float, high: float, floor: float, ceiling: float = math.inf
) -> None:
    """Refuse a range that is not floor <= low < high <= ceiling, or not of numbers."""
    got = f"got {name}_min={low!r}, {name}_max={high!r}"
    if not (isinstance(low, Real) and isinstance(high, Real)):
        raise TypeError(f"{type(sde).__name__} needs numbers {name}_min and {name}_max, {got}")
    if not (floor <= low < high <= ceiling and math.isfinite(high)):
        limit = f" <= {ceiling:g}" if math.isfinite(ceiling) else ""
        raise ValueError(
            f"{type(sde).__name__} needs finite {floor:g} <= {name}_min < {name}_max{limit}, {got}"
        )


SMALLEST = 1e-9  # of a time or a deviation that must be positive


@dataclass(frozen=True)
class VPSDE(SDE):
    """Variance preserving, beta linear in t: dx = -beta x dt / 2 + sqrt(beta) dw, alpha^2 + sigma^2 = 1.

    log alpha_t = -t beta_min / 2 - t^2 (beta_max - beta_min) / 4. Song et al. 2021 (arXiv 2011.13456, eq. 11
    and 33). t is in [t_min, t_max]; ``t_min`` is 1e-3, as they sample (their likelihoods use 1e-5).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self, "t", self.t_min, self.t_max, SMALLEST)
        _check_range(self, "beta", self.beta_min, self.beta_max, 0.0)

    def log_alpha(self, t: Tensor) -> Tensor:
        return -t * (self.beta_min / 2 + t * (self.beta_max - self.beta_min) / 4)

    def log_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * torch.log(-torch.expm1(2 * self.log_alpha(t)))

    def time_of(self, lam: Tensor) -> Tensor:
        return self._time(-0.5 * _softplus(-2 * lam))

    def _time(self, log_alpha: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        root = torch.sqrt(self.beta_min**2 - 4 * slope * log_alpha)
        return -4 * log_alpha / (root + self.beta_min)


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    """Variance below the VP SDE's: the same alpha, sigma = 1 - alpha^2 (Song et al. 2021, eq. 12 and 33)."""

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(-torch.expm1(2 * self.log_alpha(t)))

    def time_of(self, lam: Tensor) -> Tensor:
        return self._time(-torch.asinh(0.5 * torch.exp(-lam)))


@dataclass(frozen=True)
class VESDE(SDE):
    """Variance exploding: alpha = 1, sigma_t = sigma_min (sigma_max / sigma_min)^t.

    Song et al. 2021, eq. 9 and 30. Their eq. 31 subtracts sigma_min^2 from the variance, we and their own
    code do not: the data is then seen at sigma_min at t = 0.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self, "t", self.t_min, self.t_max, 0.0)
        _check_range(self, "sigma", self.sigma_min, self.sigma_max, SMALLEST)

    def log_alpha(self, t: Tensor) -> Tensor:
        return t * 0

    def log_sigma(self, t: Tensor) -> Tensor:
        return math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min)

    def time_of(self, lam: Tensor) -> Tensor:
        return (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Cosine(SDE):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17, without their offset s = 0.008, whose place ``t_min``
    takes.
    """

    t_min: float = 1e-3
    t_max: float = 0.995

    def __post_init__(self) -> None:
        _check_range(self, "t", self.t_min, self.t_max, SMALLEST, 1 - SMALLEST)

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log(torch.cos(t * (math.pi / 2)))

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(torch.sin(t * (math.pi / 2)))

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)


@dataclass(frozen=True)
class EDM(SDE):
    """alpha = 1, sigma = t (Karras et al. 2022, arXiv 2206.00364, Table 1); time is the noise level."""

    t_min: float = 0.002
    t_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range(self, "t", self.t_min, self.t_max, SMALLEST)

    def log_alpha(self, t: Tensor) -> Tensor:
        return t * 0

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)


@dataclass(frozen=True)
class RectifiedFlow(SDE):
    """alpha = 1 - t, sigma = t (Liu et al. 2023, arXiv 2209.03003; Lipman et al. 2023, arXiv 2210.02747).

    At t = 1 alpha is 0: there a network that estimates the noise says nothing of the data, and steps in
    lambda have no beginning; ``clip`` or a ``t_max`` below 1 avoids it.
    """

    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self, "t", self.t_min, self.t_max, SMALLEST, 1.0)

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) to the last digit; torch's own is the identity beyond 20."""
    return torch.logaddexp(x, torch.zeros_like(x))
