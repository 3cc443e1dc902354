"""What a network's output means: the estimate of x_0 as a linear function of its input and its output."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..processes.level import Level
from ..registry import chosen


class Affine(NamedTuple):
    """E[x_0 | x_t] = skip x_t + out net(scale x_t, time), each a float or a tensor.

    ``time`` None: the network gets the SDE's label of t (:class:`Denoiser`).
    """

    scale: Any
    skip: Any
    out: Any
    time: Any = None


Prediction = Callable[[Level[Any]], Affine]


def noise(level: Level[Any]) -> Affine:
    """The network estimates eps (Ho et al. 2020, arXiv 2006.11239)."""
    return Affine(1.0, 1 / level.alpha, -level.sigma / level.alpha)


def score(level: Level[Any]) -> Affine:
    """The network estimates grad log p_t = -eps / sigma (Song et al. 2021, arXiv 2011.13456)."""
    return Affine(1.0, 1 / level.alpha, level.sigma**2 / level.alpha)


def data(level: Level[Any]) -> Affine:
    """The network estimates x_0."""
    return Affine(1.0, 0.0, 1.0)


def v(level: Level[Any]) -> Affine:
    """The network estimates alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D)."""
    norm = level.alpha**2 + level.sigma**2
    return Affine(1.0, level.alpha / norm, -level.sigma / norm)


def velocity(level: Level[Any]) -> Affine:
    """The network estimates eps - x_0, the velocity of rectified flow (Liu et al. 2023, arXiv 2209.03003)."""
    total = level.alpha + level.sigma
    return Affine(1.0, 1 / total, -level.sigma / total)


def edm(sigma_data: float = 0.5) -> Prediction:
    """Preconditioning of Karras et al. 2022 (arXiv 2206.00364, Table 1), for any alpha: theirs at x / alpha.

    ``sigma_data`` is the deviation of the data. The network's label is log(sigma / alpha) / 4, always:
    it serves every process within the range of sigma / alpha that it was trained on.
    """
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data must be positive and finite, got {sigma_data!r}")

    def prediction(level: Level[Any]) -> Affine:
        # Theirs, multiplied out by alpha so that alpha = 0 is no pole.
        norm = level.sigma**2 + (level.alpha * sigma_data) ** 2
        root = norm**-0.5
        skip, out = sigma_data**2 * level.alpha / norm, level.sigma * sigma_data * root
        return Affine(root, skip, out, -level.lam / 4)

    return prediction


PREDICTIONS: dict[str, Callable[..., Prediction]] = {
    "noise": lambda: noise,
    "score": lambda: score,
    "data": lambda: data,
    "v": lambda: v,
    "velocity": lambda: velocity,
    "edm": edm,
}


def prediction_of(spec: Prediction | str) -> Prediction:
    """A prediction as it is, or by name, with options if wanted: ``"v"``, ``"edm:sigma_data=0.3"``.

    Raises:
        TypeError: neither; ``edm`` without its call is none yet.
        ValueError: an unknown name or option, or a value that the prediction does not take.
    """
    prediction = chosen("prediction", spec, PREDICTIONS)
    if not callable(prediction):
        raise TypeError(f"a prediction must be a function or a name, got {type(prediction).__name__}")
    return prediction
