"""Spacings by a formula, each from exactly the SDE's ``t_max`` to exactly its ``t_min``.

A level has three equivalent coordinates: its time t, its r = sigma / alpha, and its half log-SNR lambda =
-log r. ``sde.lam(t)`` and ``sde.time_of(lam)`` convert.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..processes.sde import SDE
from ..registry import as_floats

# From an SDE and a number of steps n to n + 1 falling times in float64.
Spacing = Callable[[SDE, int], Tensor]


@dataclass(frozen=True)
class UniformTime:
    """Equal steps in t (Song et al. 2021, arXiv 2011.13456)."""

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return between_ends(sde, ramp(sde.t_max, sde.t_min, n))


@dataclass(frozen=True)
class PowerTime:
    """Equal steps in t^(1 / exponent): t_i = (t_max^(1/e) + i/n (t_min^(1/e) - t_max^(1/e)))^e.

    Above 1 the steps shrink towards the data, below 1 towards the noise; 1 is :class:`UniformTime`, 2 is
    :class:`QuadraticTime`. Zhang and Chen 2023 (arXiv 2204.13902) use it for DEIS.

    Args:
        exponent: positive.

    Raises:
        ValueError: an exponent that is not positive and finite.
    """

    exponent: float = 2.0

    def __post_init__(self) -> None:
        check_positive("exponent", self.exponent)
        as_floats(self, "exponent")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        root = (sde.t_min / sde.t_max) ** (1 / self.exponent)
        return between_ends(sde, sde.t_max * ramp(1.0, root, n) ** self.exponent)


@dataclass(frozen=True)
class QuadraticTime:
    """Equal steps in sqrt(t) (Song et al. 2021, arXiv 2010.02502, appendix D.2)."""

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return PowerTime(2.0)(sde, n)


@dataclass(frozen=True)
class Beta:
    """Quantiles of a Beta(a, b) distribution over t: t_i = t_min + (t_max - t_min) F^-1(1 - i / n).

    F is the distribution function; a = b = 1 is :class:`UniformTime`. Lee et al. 2024 (arXiv 2407.12173). The
    option ``use_beta_sigmas`` of diffusers takes the quantiles in sigma in place of t: for this, use an
    :class:`EDM`, whose time is sigma.

    Args:
        a: positive; below 1 the steps at the clean end are small.
        b: positive; below 1 the steps at the noisy end are small.

    Raises:
        ValueError: a number that is not positive and finite.
    """

    a: float = 0.6
    b: float = 0.6

    def __post_init__(self) -> None:
        check_positive("a", self.a)
        check_positive("b", self.b)
        as_floats(self, "a", "b")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        from scipy.special import betaincinv

        quantiles = torch.from_numpy(betaincinv(self.a, self.b, ramp(1.0, 0.0, n).numpy()))
        return between_ends(sde, sde.t_min + (sde.t_max - sde.t_min) * quantiles)


@dataclass(frozen=True)
class UniformLambda:
    """Equal steps in the half log-SNR (Lu et al. 2022, arXiv 2206.00927, section 3.3).

    The ratios of successive sigma / alpha are then equal: ``get_sigmas_exponential`` of k-diffusion.
    """

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return between_ends(sde, sde.time_of(ramp(*_lam_ends(sde), n)))


@dataclass(frozen=True)
class Karras:
    """Equal steps in r^(1 / rho), r = sigma / alpha (Karras et al. 2022, arXiv 2206.00364, eq. 5).

    r_i = (r_max^(1/rho) + i/n (r_min^(1/rho) - r_max^(1/rho)))^rho. 1 is :class:`UniformSigma`, the limit of
    infinity is :class:`UniformLambda`.

    Args:
        rho: positive.

    Raises:
        ValueError: a rho that is not positive and finite.
    """

    rho: float = 7.0

    def __post_init__(self) -> None:
        check_positive("rho", self.rho)
        as_floats(self, "rho")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        # (r_i / r_max)^(1/rho) - 1, so that no rho overflows, and a large one loses no digits.
        part = ramp(0.0, math.expm1((first - last) / self.rho), n)
        return between_ends(sde, sde.time_of(first - self.rho * torch.log1p(part)))


@dataclass(frozen=True)
class UniformSigma:
    """Equal steps in r = sigma / alpha, the variable of dx / dr = eps."""

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return Karras(1.0)(sde, n)


@dataclass(frozen=True)
class Polyexponential:
    """lambda_i = lambda_max - (1 - i / n)^rho (lambda_max - lambda_min): a polynomial in log sigma.

    Above 1 the steps shrink towards the data, below 1 towards the noise; 1 is :class:`UniformLambda`.
    k-diffusion (Crowson et al. 2022, ``get_sigmas_polyexponential``).

    Args:
        rho: positive.

    Raises:
        ValueError: a rho that is not positive and finite.
    """

    rho: float = 1.0

    def __post_init__(self) -> None:
        check_positive("rho", self.rho)
        as_floats(self, "rho")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        return between_ends(sde, sde.time_of(last - ramp(1.0, 0.0, n) ** self.rho * (last - first)))


def ramp(first: float, last: float, n: int) -> Tensor:
    """n + 1 numbers at equal distances, float64."""
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


def between_ends(sde: SDE, times: Tensor) -> Tensor:
    """The times with the ends exactly at t_max and t_min, free of roundings. Changed in place."""
    times[0], times[-1] = sde.t_max, sde.t_min
    return times


def check_positive(name: str, value: float) -> None:
    """ValueError unless a number is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")


def _lam_ends(sde: SDE) -> tuple[float, float]:
    first, last = sde.lam_ends()
    if not math.isfinite(first):
        raise ValueError(
            f"{sde} has no half log-SNR at t_max, where alpha = 0; use uniform-t, or clip the SDE"
        )
    return first, last
