"""Posteriors of the literature, by their names: choices of the covariances L and R of one formula.

They are the estimates of the papers in the form of E[x_0 | x_t, y]. The papers use them in their own loops,
some with a strength for each step; here any solver does, and its limit in many steps is one law.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from ..denoisers.protocol import DenoiserLike
from ..processes.level import Level
from .covariances import Isotropic, Jacobian, ScoreForm
from .observed import Observed
from .posterior import Posterior


def ddnm(denoiser: DenoiserLike, observed: Observed) -> Posterior:
    """D + A^T (A A^T)^-1 (y - A D): the projection on y, as if it had no noise; tau is not used.

    Wang et al. 2022 (arXiv 2212.00490, eq. 13); also the known pixels that a run puts in their places.
    """
    return Posterior(denoiser, replace(observed, tau=0.0), Isotropic())


def diffpir(denoiser: DenoiserLike, observed: Observed, lam: float = 8.0) -> Posterior:
    """L = R = (s^2 / lam) I. Zhu et al. 2023 (arXiv 2305.08995, Algorithm 1), whose lam is 1 to 15.

    Args:
        denoiser: D.
        observed: the observation.
        lam: positive; above 1 it uses less of y than r^2 = s^2.
    """
    if not 0 < lam < float("inf"):
        raise ValueError(f"lam must be positive and finite, got {lam}")
    return Posterior(denoiser, observed, Isotropic(partial(_noise_over, float(lam))))


def pigdm(denoiser: DenoiserLike, observed: Observed) -> Posterior:
    """L = V, R = r^2 I with r^2 = s^2 / (1 + s^2). Song et al. 2023 (Pseudoinverse-guided diffusion, Alg. 1).

    Difference: the paper multiplies each step by r^2.
    """
    return Posterior(denoiser, observed, ScoreForm())


def dps(denoiser: DenoiserLike, observed: Observed) -> Posterior:
    """L = V, R = 0: the gradient of log N(y; A D, tau^2 I). Chung et al. 2022 (arXiv 2209.14687, eq. 11-15).

    Difference: the paper's algorithm takes a step length in the place of 1 / tau^2.

    Raises:
        ValueError: tau = 0.
    """
    if not observed.tau:
        raise ValueError("tau must be positive for dps, got 0")
    return Posterior(denoiser, observed, ScoreForm(_nothing))


def mmps(denoiser: DenoiserLike, observed: Observed, iterations: int = 1) -> Posterior:
    """L = R = V, by conjugate gradients. Rozet et al. 2024 (arXiv 2405.13712, section 4)."""
    return Posterior(denoiser, observed, Jacobian(iterations))


def _noise_over(lam: float, level: Level[Any]) -> Any:
    if not hasattr(level.alpha, "shape") and level.alpha == 0:
        raise ValueError("diffpir is not defined at alpha = 0, where s^2 is infinite; clip the SDE")
    return (level.sigma / level.alpha) ** 2 / lam


def _nothing(level: Level[Any]) -> float:
    return 0.0
