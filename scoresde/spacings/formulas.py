"""Spacings given by a formula."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..processes.sde import SDE, lam_at

# n + 1 times, falling from t_max to t_min, float64.
Spacing = Callable[[SDE, int], Tensor]


def uniform_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in t (Song et al. 2021, arXiv 2011.13456)."""
    return _between_ends(sde, _ramp(sde.t_max, sde.t_min, n))


def quadratic_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in sqrt(t) (Song et al. 2021, arXiv 2010.02502, appendix D.2)."""
    return power_time(2.0)(sde, n)


def power_time(exponent: float = 2.0) -> Spacing:
    """Equal steps in t^(1 / exponent): t_i = (t_max^(1/e) + i/n (t_min^(1/e) - t_max^(1/e)))^e.

    ``exponent`` is positive: above 1 the steps shrink towards the data, below 1 towards the noise; 1 is
    :func:`uniform_time`, 2 :func:`quadratic_time`. DEIS takes its steps so (Zhang and Chen 2023, arXiv
    2204.13902).
    """
    _check_positive("exponent", exponent)

    def spacing(sde: SDE, n: int) -> Tensor:
        root = (sde.t_min / sde.t_max) ** (1 / exponent)
        return _between_ends(sde, sde.t_max * _ramp(1.0, root, n) ** exponent)

    return spacing


def beta(a: float = 0.6, b: float = 0.6) -> Spacing:
    """Equal parts of a Beta(a, b) distribution over t: t_i = t_min + (t_max - t_min) F^-1(1 - i / n).

    ``a`` and ``b`` are positive, F the distribution function: below 1, small steps at the clean (a) and the
    noisy (b) end; 1, 1 is :func:`uniform_time`. Lee et al. 2024 (arXiv 2407.12173). Diffusers'
    ``use_beta_sigmas`` puts the quantiles in sigma in place of t: for this, an :class:`EDM`, whose time is
    sigma.
    """
    _check_positive("a", a)
    _check_positive("b", b)
    from scipy.special import betaincinv

    def spacing(sde: SDE, n: int) -> Tensor:
        quantiles = torch.from_numpy(betaincinv(a, b, _ramp(1.0, 0.0, n).numpy()))
        return _between_ends(sde, sde.t_min + (sde.t_max - sde.t_min) * quantiles)

    return spacing


def uniform_lam(sde: SDE, n: int) -> Tensor:
    """Equal steps in the half log-SNR (Lu et al. 2022, arXiv 2206.00927, section 3.3).

    The same are equal ratios of sigma / alpha, k-diffusion's ``get_sigmas_exponential``.
    """
    return _between_ends(sde, sde.time_of(_ramp(*_lam_ends(sde), n)))


def uniform_sigma(sde: SDE, n: int) -> Tensor:
    """Equal steps in r = sigma / alpha: those of dx / dr = eps, where pure noise is a straight line."""
    return karras(1.0)(sde, n)


def karras(rho: float = 7.0) -> Spacing:
    """Equal steps in r^(1 / rho), r = sigma / alpha (Karras et al. 2022, arXiv 2206.00364, eq. 5).

    r_i = (r_max^(1/rho) + i/n (r_min^(1/rho) - r_max^(1/rho)))^rho. ``rho`` is positive: 1 is
    :func:`uniform_sigma`, infinity would be :func:`uniform_lam`.
    """
    _check_positive("rho", rho)

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        # (r_i / r_max)^(1/rho) - 1, so that no rho overflows, and a large one loses no digits.
        part = _ramp(0.0, math.expm1((first - last) / rho), n)
        return _between_ends(sde, sde.time_of(first - rho * torch.log1p(part)))

    return spacing


def polyexponential(rho: float = 1.0) -> Spacing:
    """lambda_i = lambda_max - (1 - i / n)^rho (lambda_max - lambda_min): a polynomial in log sigma.

    ``rho`` is positive: above 1 the steps shrink towards the data, below 1 towards the noise; 1 is
    :func:`uniform_lam`. k-diffusion (Crowson et al. 2022, ``get_sigmas_polyexponential``).
    """
    _check_positive("rho", rho)

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        return _between_ends(sde, sde.time_of(last - _ramp(1.0, 0.0, n) ** rho * (last - first)))

    return spacing


def default_spacing(sde: SDE) -> Spacing:
    """Equal steps in the half log-SNR, or in t where that has no beginning, for alpha = 0 at t_max."""
    return uniform_lam if math.isfinite(lam_at(sde, sde.t_max)) else uniform_time


def _ramp(first: float, last: float, n: int) -> Tensor:
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


def _between_ends(sde: SDE, times: Tensor) -> Tensor:
    """The times, from t_max to t_min exactly: roundings must not move the ends, nor leave the SDE's times."""
    times[0], times[-1] = sde.t_max, sde.t_min
    return times


def _lam_ends(sde: SDE) -> tuple[float, float]:
    first, last = lam_at(sde, sde.t_max), lam_at(sde, sde.t_min)
    if not math.isfinite(first):
        raise ValueError(
            f"{sde} has no half log-SNR at t_max, where alpha = 0; use uniform-t, or clip the SDE"
        )
    return first, last


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
