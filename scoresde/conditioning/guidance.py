"""Guidance: away from the estimate of one denoiser, towards and beyond that of another."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser
from ..processes.level import Level, column
from .cost import Cost, cost_at
from .given import Given, estimates
from .weights import Weight, weight_at, weight_of

# From two estimates (B, ...), of the denoiser and of the other, and a weight, which broadcasts with them.
Rule = Callable[[Tensor, Tensor, Any], Tensor]


def mixed(good: Tensor, other: Tensor, weight: Any) -> Tensor:
    """other + weight (good - other); for the weights 0 and 1 one of the two, to the last bit."""
    return torch.lerp(other, good, weight)


class Guided(Wrapper):
    """D + (w - 1) (D - D_other): guidance of a denoiser D by another, D_other.

    With the weight 1 it is D, and with 0 D_other, to the last bit. Weights above 1 lead away from D_other.

    * Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): D_other is the same network without a
      condition, ``Given(denoiser, null)``; see :func:`guided`. Their w is w - 1 here. It does not sample p(x)
      p(c | x)^w, except for normal laws of equal covariance.
    * A negative condition: ``Given(denoiser, unwanted)``.
    * Autoguidance (Karras et al. 2024, arXiv 2406.02507): D_other is a smaller or less trained network.

    The two weights, w and 1 - w, have the sum 1, so it is the same for estimates of the noise, of v, of the
    velocity and of the score. ``Posterior(Guided(net))`` is the posterior of a guided prior; guidance of a
    posterior, ``Guided(Posterior(net))``, is something else.

    Args:
        denoiser: D; its condition is the condition of the call.
        other: D_other, under the same process; it receives the same condition.
        weight: w, a number, or a function of the level, as :class:`Interval`. At a level of floats where it
            is exactly 1, D_other is not called.
        rule: combines two estimates: :func:`mixed`, :class:`Rescaled` or :class:`Projected`.
        together: if D_other is ``Given(denoiser, ...)``, make one network call for both, of twice as many
            rows; False: two calls, with less memory.

    Raises:
        TypeError: an argument that is not a denoiser, or a weight that is neither a number nor a function.
        ValueError: a weight that is not finite; another process.
    """

    def __init__(
        self,
        denoiser: DenoiserLike,
        other: DenoiserLike,
        weight: Weight,
        *,
        rule: Rule = mixed,
        together: bool = True,
    ) -> None:
        self.denoiser, self.other = as_denoiser(denoiser), as_denoiser(other)
        self.weight, self.rule, self.together = weight_of("weight", weight), rule, together
        _check_process(self.denoiser, self.other)

    @property
    def inside(self) -> tuple[DenoiserLike, ...]:
        """Both denoisers."""
        return self.denoiser, self.other

    def at(self, dtype: torch.dtype | None) -> "Guided":
        """Both denoisers in another precision."""
        denoiser, null = self.denoiser.at(dtype), self._null()
        other = Given(denoiser, null.cond) if null else self.other.at(dtype)
        return Guided(denoiser, other, self.weight, rule=self.rule, together=self.together)

    def cost(self, level: Level[float]) -> Cost:
        """The cost at a level of floats: of D alone where the weight is 1, or else of both."""
        own = cost_at(self.denoiser, level)
        return own if weight_at(self.weight, level) == 1 else own + cost_at(self.other, level)

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        weight = weight_at(self.weight, level)
        if not isinstance(weight, Tensor) and weight == 1:
            return self.denoiser(x, level, cond)
        return self.rule(*self.both(x, level, cond), column(weight, x))

    def both(self, x: Tensor, level: Level[Any], cond: Condition = None) -> tuple[Tensor, Tensor]:
        """The estimates of D and of D_other."""
        null = self._null()
        if null:
            good, other = estimates(self.denoiser, x, level, (cond, null.of(x)), self.together)
            return good, other
        return self.denoiser(x.clone(), level, cond), self.other(x, level, cond)

    def _null(self) -> Given | None:
        """D_other, if it is D itself under a fixed condition."""
        other = self.other
        return other if isinstance(other, Given) and other.denoiser is self.denoiser else None


def guided(
    denoiser: DenoiserLike, null: Condition, scale: Weight, *, rule: Rule = mixed, together: bool = True
) -> Guided:
    """Classifier-free guidance: D_none + scale (D - D_none), D_none the denoiser without a condition.

    Example:
        ``sample(guided(denoiser, None, 2.0), "deis", shape, nfe=20, cond=labels)``; with an interval,
        ``guided(denoiser, None, Interval(2.0, 0.3, 2.3, edge=0.15))``.

    Args:
        denoiser: a denoiser that was trained with and without conditions.
        null: the label or condition that means none (:class:`Given`); None for the label ``classes`` of a
            denoiser with classes.
        scale: the weight (:class:`Guided`); 1 is the denoiser itself, 0 the denoiser without a condition.
        rule: as in :class:`Guided`.
        together: as in :class:`Guided`.

    Raises:
        TypeError: as :class:`Guided` and :class:`Given`.
        ValueError: as :class:`Guided` and :class:`Given`; no ``null`` for a denoiser without classes.
    """
    denoiser = as_denoiser(denoiser)
    if null is None:
        null = denoiser.classes
        if not null:
            raise ValueError("null must be the condition that means none: the denoiser has no classes")
    return Guided(denoiser, Given(denoiser, null), scale, rule=rule, together=together)


def _check_process(denoiser: DenoiserLike, other: DenoiserLike) -> None:
    """ValueError unless the noise levels of both are the same at the ends of the first."""
    sde = denoiser.sde
    for t in (sde.t_min, sde.t_max):
        a, b = sde.level_at(t), other.sde.level_at(t)
        pairs = ((a.alpha, b.alpha), (a.sigma, b.sigma))
        if not all(math.isclose(p, q, rel_tol=1e-6, abs_tol=1e-12) for p, q in pairs):
            raise ValueError(
                f"other must be under the process of the denoiser, {sde}, got {other.sde}; "
                f"Transported(other, sde) brings it there"
            )
