"""Several conditions of one network at once."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser, checked
from ..processes.level import Level, column
from .cost import Cost, cost_at
from .given import estimates


class Composed(Wrapper):
    """sum w_i D(x, c_i) + (1 - sum w_i) x / alpha: the estimate of the score sum w_i score(x, c_i).

    The condition of a call is a tuple or list of the conditions c_i, one for each weight.

    * Weights of sum 1: the last term is 0, and the result is the same for estimates of the noise, of v and of
      the velocity. To add conditions to a network, give the condition that means none the weight 1 - sum w_i
      (Liu et al. 2022, arXiv 2206.01714, equation 11).
    * Another sum s: the law of this score at the start of a run is N(0, sigma^2 / s), but a run begins with
      N(0, sigma^2).

    A run does not sample the product of p(x | c_i)^(w_i) at t = 0, except for normal laws of equal covariance
    and weights of sum 1.

    Args:
        denoiser: D.
        weights: w_i, finite numbers; a condition of weight 0 is not evaluated.
        together: one network call for all conditions, with a row for each sample and condition; False: one
            call for each condition.

    Raises:
        TypeError: not a denoiser; weights that are no numbers.
        ValueError: no weight, or one that is not finite; later, another number of conditions; at alpha = 0,
            weights of another sum than 1.
    """

    def __init__(self, denoiser: DenoiserLike, weights: Sequence[float], *, together: bool = True) -> None:
        self.denoiser, self.together = as_denoiser(denoiser), together
        try:
            self.weights = tuple(map(float, weights))
        except (TypeError, ValueError):
            raise TypeError(f"weights must be numbers, got {weights!r}") from None
        if not any(self.weights) or not all(map(math.isfinite, self.weights)):
            raise ValueError(f"weights must be finite and not all 0, got {weights!r}")
        total = math.fsum(self.weights)
        self.rest = 0.0 if math.isclose(total, 1, rel_tol=1e-12) else 1 - total

    @property
    def classes(self) -> None:
        """None: the condition is a tuple."""

    def checked(self, cond: Condition, path: str = "cond") -> Condition:
        """Each of the conditions, checked; ValueError unless there is one for each weight."""
        if not isinstance(cond, tuple | list) or len(cond) != len(self.weights):
            what = f"{len(cond)}" if isinstance(cond, tuple | list) else type(cond).__name__
            raise ValueError(f"{path} must be a tuple of {len(self.weights)} conditions, got {what}")
        return tuple(checked(self.denoiser, part, f"{path}[{i}]") for i, part in enumerate(cond))

    def at(self, dtype: torch.dtype | None) -> "Composed":
        """The denoiser inside in another precision, with the same weights."""
        return Composed(self.denoiser.at(dtype), self.weights, together=self.together)

    def cost(self, level: Level[float]) -> Cost:
        """The cost of one estimate for each weight that is not 0."""
        one = cost_at(self.denoiser, level)
        return Cost(*(number * sum(weight != 0 for weight in self.weights) for number in one))

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        if self.rest and not isinstance(level.alpha, Tensor) and level.alpha == 0:
            raise ValueError(f"weights must have the sum 1 at alpha = 0, got {self.weights}")
        chosen = [(w, one) for w, one in zip(self.weights, cond, strict=True) if w]
        found = estimates(self.denoiser, x, level, [one for _, one in chosen], self.together)
        mean = chosen[0][0] * found[0]
        for (weight, _), estimate in zip(chosen[1:], found[1:], strict=True):
            mean = torch.add(mean, estimate, alpha=weight)
        return mean + column(self.rest / level.alpha, x) * x if self.rest else mean
