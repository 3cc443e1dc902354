"""Predictions: the estimate of x_0 as a linear function of the input and the output of a network."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..processes.level import Level
from ..registry import as_floats, build


class Affine(NamedTuple):
    """E[x_0 | x_t] = skip x_t + out net(scale x_t, time), each a float or a tensor.

    If ``time`` is None, the network receives the label of t of the SDE (:class:`Denoiser`).
    """

    scale: Any
    skip: Any
    out: Any
    time: Any = None


Prediction = Callable[[Level[Any]], Affine]


@dataclass(frozen=True)
class NoisePrediction:
    """The network estimates eps (Ho et al. 2020, arXiv 2006.11239)."""

    def __call__(self, level: Level[Any]) -> Affine:
        return Affine(1.0, 1 / level.alpha, -level.sigma / level.alpha)


@dataclass(frozen=True)
class ScorePrediction:
    """The network estimates grad log p_t = -eps / sigma (Song et al. 2021, arXiv 2011.13456)."""

    def __call__(self, level: Level[Any]) -> Affine:
        return Affine(1.0, 1 / level.alpha, level.sigma**2 / level.alpha)


@dataclass(frozen=True)
class DataPrediction:
    """The network estimates x_0."""

    def __call__(self, level: Level[Any]) -> Affine:
        return Affine(1.0, 0.0, 1.0)


@dataclass(frozen=True)
class VPrediction:
    """The network estimates alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D)."""

    def __call__(self, level: Level[Any]) -> Affine:
        norm = level.alpha**2 + level.sigma**2
        return Affine(1.0, level.alpha / norm, -level.sigma / norm)


@dataclass(frozen=True)
class VelocityPrediction:
    """The network estimates eps - x_0, the velocity of a flow (Liu et al. 2023, arXiv 2209.03003)."""

    def __call__(self, level: Level[Any]) -> Affine:
        total = level.alpha + level.sigma
        return Affine(1.0, 1 / total, -level.sigma / total)


@dataclass(frozen=True)
class EDMPrediction:
    """The preconditioning of Karras et al. 2022 (arXiv 2206.00364, Table 1) at x / alpha, for any alpha.

    The label is log(sigma / alpha) / 4, so a network fits each process within its range of sigma / alpha.

    Args:
        sigma_data: the standard deviation of the data, positive.

    Raises:
        ValueError: a deviation that is not positive and finite.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive and finite, got {self.sigma_data!r}")
        as_floats(self, "sigma_data")

    def __call__(self, level: Level[Any]) -> Affine:
        # Their formulas, expanded by alpha, so that alpha = 0 is not a pole.
        norm = level.sigma**2 + (level.alpha * self.sigma_data) ** 2
        root = norm**-0.5
        skip, out = self.sigma_data**2 * level.alpha / norm, level.sigma * self.sigma_data * root
        return Affine(root, skip, out, -level.lam / 4)


noise, score, data = NoisePrediction(), ScorePrediction(), DataPrediction()
v, velocity, edm = VPrediction(), VelocityPrediction(), EDMPrediction

PREDICTIONS: dict[str, Any] = {
    "noise": NoisePrediction,
    "score": ScorePrediction,
    "data": DataPrediction,
    "v": VPrediction,
    "velocity": VelocityPrediction,
    "edm": EDMPrediction,
}


def prediction_of(spec: Prediction | str) -> Prediction:
    """A prediction as it is, or by name, with options if wanted: ``"v"``, ``"edm:sigma_data=0.3"``.

    Raises:
        TypeError: neither a prediction nor a name; a class (``edm`` in place of ``edm()``).
        ValueError: an unknown name or option, or a value that the prediction refuses.
    """
    prediction: Prediction = build("prediction", PREDICTIONS, spec)
    if not callable(prediction):
        raise TypeError(f"a prediction must be a function or a name, got {type(prediction).__name__}")
    return prediction
