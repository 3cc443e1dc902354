"""Processes in continuous time."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from .level import Level, T
from .sde import SDE


def check_range(
    sde: SDE, name: str, low: float, high: float, floor: float, ceiling: float = math.inf
) -> None:
    """Refuse a range unless floor <= low < high <= ceiling, all numbers.

    Args:
        sde: the process, for messages.
        name: the name of the range, for messages: its ends are ``name_min`` and ``name_max``.
        low: its lower end.
        high: its upper end, finite.
        floor: the least value of ``low``.
        ceiling: the largest value of ``high``.

    Raises:
        TypeError: an end that is not a number.
        ValueError: another order of the four.
    """
    got = f"got {name}_min={low!r}, {name}_max={high!r}"
    if not (isinstance(low, Real) and isinstance(high, Real)):
        raise TypeError(f"{type(sde).__name__} needs numbers {name}_min and {name}_max, {got}")
    if not (floor <= low < high <= ceiling and math.isfinite(high)):
        limit = f" <= {ceiling:g}" if math.isfinite(ceiling) else ""
        raise ValueError(
            f"{type(sde).__name__} needs finite {floor:g} <= {name}_min < {name}_max{limit}, {got}"
        )


SMALLEST = 1e-9  # the least value of a time or a deviation that must be positive


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
        check_range(self, "t", self.t_min, self.t_max, SMALLEST)
        check_range(self, "beta", self.beta_min, self.beta_max, 0.0)

    def log_alpha(self, t: Tensor) -> Tensor:
        return -t * (self.beta_min / 2 + t * (self.beta_max - self.beta_min) / 4)

    def log_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * torch.log(-torch.expm1(2 * self.log_alpha(t)))

    def time_of(self, lam: Tensor) -> Tensor:
        return self._time(-0.5 * softplus(-2 * lam))

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

    Song et al. 2021, eq. 9 and 30. Their eq. 31 subtracts sigma_min^2 from the variance; this class does not,
    as their code does not: the deviation at t = 0 is then sigma_min.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_min: float = 0.0
    t_max: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "t", self.t_min, self.t_max, 0.0)
        check_range(self, "sigma", self.sigma_min, self.sigma_max, SMALLEST)

    def log_alpha(self, t: Tensor) -> Tensor:
        return t * 0

    def log_sigma(self, t: Tensor) -> Tensor:
        return math.log(self.sigma_min) + t * math.log(self.sigma_max / self.sigma_min)

    def time_of(self, lam: Tensor) -> Tensor:
        return (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Cosine(SDE):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17, with ``t_min`` in place of their offset s = 0.008.
    """

    t_min: float = 1e-3
    t_max: float = 0.995

    def __post_init__(self) -> None:
        check_range(self, "t", self.t_min, self.t_max, SMALLEST, 1 - SMALLEST)

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
        check_range(self, "t", self.t_min, self.t_max, SMALLEST)

    def unit_label(self, level: Level[T]) -> T:
        return -level.lam / 4  # log(t) / 4, the label of Karras et al.

    def log_alpha(self, t: Tensor) -> Tensor:
        return t * 0

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)


@dataclass(frozen=True)
class RectifiedFlow(SDE):
    """alpha = 1 - t, sigma = t (Liu et al. 2023, arXiv 2209.03003; Lipman et al. 2023, arXiv 2210.02747).

    At t = 1, alpha is 0 and lambda is -infinity. Every solver starts there, but an estimate of the noise does
    not determine x_0, and a spacing in lambda has no beginning: for these, use ``clip`` or a ``t_max`` below
    1.
    """

    t_min: float = 1e-3
    t_max: float = 1.0

    def __post_init__(self) -> None:
        check_range(self, "t", self.t_min, self.t_max, SMALLEST, 1.0)

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return torch.log(t)

    def time_of(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) in full precision; torch's softplus is the identity beyond 20."""
    return torch.logaddexp(x, torch.zeros_like(x))
