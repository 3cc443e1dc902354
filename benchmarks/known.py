"""Problems whose answer is known: every process, and a mixture of three normal distributions on it."""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from scoresde import (
    EDM,
    SDE,
    VESDE,
    VPSDE,
    Cosine,
    DiscreteVPSDE,
    ExactDenoiser,
    Level,
    Mixture,
    RectifiedFlow,
    SubVPSDE,
    UniformLambda,
)
from scoresde.spacings import Grid

Array = NDArray[np.float64]

# Every process, where each of its parts is regular: alpha > 0 at the noisy end, and at the clean end not so
# little noise that the mixture below is resolved to its last detail.
SDES: dict[str, SDE] = {
    "vp": VPSDE(),
    "sub-vp": SubVPSDE(t_min=1e-2),
    "ve": VESDE(),
    "edm": EDM(t_min=1e-2),
    "cosine": Cosine(t_min=1e-2),
    "rectified-flow": RectifiedFlow(1e-2, 0.99),
    "discrete-vp": DiscreteVPSDE(),
}

MEANS, STDS, SHARES = np.array([-1.0, 0.4, 1.2]), np.array([0.3, 0.2, 0.4]), np.array([0.3, 0.5, 0.2])
POINTS = 41  # states at the start, out to two deviations


def mixture(x: Array, level: Level[Any], rows: Array | None = None) -> Array:
    """E[x_0 | x_t] of three normal distributions, by the level's numbers of one shape with x, or floats.

    In numpy, four times as fast on so few numbers as torch.
    """
    alpha, sigma = (np.asarray(number)[..., None] for number in (level.alpha, level.sigma))
    var = (alpha * STDS) ** 2 + sigma**2
    away = x[..., None] - alpha * MEANS
    logs = np.log(SHARES / np.sqrt(var)) - away**2 / (2 * var)
    weights = np.exp(logs - logs.max(-1, keepdims=True))
    parts = MEANS + alpha * STDS**2 / var * away
    mean: Array = (weights * parts).sum(-1) / weights.sum(-1)
    return mean


def exact_denoiser(sde: SDE) -> ExactDenoiser:
    """The library's denoiser of the same mixture."""
    means, stds, shares = (torch.from_numpy(value) for value in (MEANS, STDS, SHARES))
    return ExactDenoiser(Mixture(means[:, None], stds, shares), sde)


@cache
def reference(name: str) -> tuple[Array, Array, float]:
    """States at the start of an SDE, where the probability-flow ODE carries them, and the error of that.

    dy / dtau = y - E[x_0 | x_t], with y = x_t / alpha and tau = log(sigma / alpha): of the process only the
    ends matter. The error is the difference to a tenfold tolerance, relative.
    """
    start, end = Grid.build(SDES[name], 1, UniformLambda()).levels
    x = math.hypot(start.alpha, start.sigma) * np.linspace(-2, 2, POINTS)

    def slope(tau: float, y: Array) -> Array:
        return y - mixture(y, Level(math.nan, 1.0, math.exp(tau), -tau))

    fine, coarse = (
        end.alpha
        * solve_ivp(
            slope, (-start.lam, -end.lam), x / start.alpha, "DOP853", t_eval=[-end.lam], rtol=tol, atol=tol
        ).y[:, -1]
        for tol in (1e-13, 1e-12)
    )
    return x, fine, relative(coarse, fine)


def relative(x: Array, exact: Array) -> float:
    """The mean distance of states to those that they should be, of the size of these."""
    return float(np.abs(x - exact).mean() / np.abs(exact).mean())
