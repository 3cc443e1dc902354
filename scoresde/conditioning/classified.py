"""Guidance by a classifier, or by any log-probability of a condition."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser
from ..processes.level import Level, column
from .cost import Cost, cost_at
from .weights import Weight, weight_at, weight_of

LogProbability = Callable[[Tensor, Level[Any], Condition], Tensor]


class Classified(Wrapper):
    """D + w sigma^2 / alpha grad_x log p(c | x_t = x): guidance by a classifier of noisy states.

    With w = 1 and the exact p(c | x_t) it is E[x_0 | x_t, c]. The gradient is by autograd; the parameters of
    the classifier collect none. Dhariwal & Nichol 2021 (arXiv 2105.05233, algorithms 1 and 2) in terms of D.

    Args:
        denoiser: D; it receives the condition of the call. For one without conditions, ``Given(denoiser,
            None)``.
        log_prob: log p(c | x_t), ``log_prob(x, level, cond) -> (B,)``, differentiable in x ``(B, ...)``; the
            value of a sample depends on this sample only. ``level`` holds floats, or tensors ``(B,)``.
        weight: w, a number or a function of the level. At a level of floats where it is 0, no gradient is
            taken.

    Raises:
        TypeError: not a denoiser; ``log_prob`` is not a function; a weight that is neither a number nor a
            function.
        ValueError: a weight that is not finite; later, a result of ``log_prob`` that is not ``(B,)`` or has
            no gradient; a level of floats with alpha = 0.
    """

    def __init__(self, denoiser: DenoiserLike, log_prob: LogProbability, weight: Weight = 1.0) -> None:
        if not callable(log_prob):
            raise TypeError(f"log_prob must be a function, got {type(log_prob).__name__}")
        self.denoiser, self.log_prob = as_denoiser(denoiser), log_prob
        self.weight = weight_of("weight", weight)

    def at(self, dtype: torch.dtype | None) -> "Classified":
        """The denoiser inside in another precision, with the same classifier."""
        return Classified(self.denoiser.at(dtype), self.log_prob, self.weight)

    def cost(self, level: Level[float]) -> Cost:
        """The cost of D, and one vector-Jacobian product, of the classifier, where the weight is not 0."""
        own = cost_at(self.denoiser, level)
        return own if weight_at(self.weight, level) == 0 else own + Cost(0, 1)

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        weight = weight_at(self.weight, level)
        if not isinstance(weight, Tensor) and weight == 0:
            return self.denoiser(x, level, cond)
        if not isinstance(level.alpha, Tensor) and level.alpha == 0:
            raise ValueError("at alpha = 0 the gradient of log_prob has no weight; clip the SDE")
        gradient = self._gradient(x, level, cond)
        scale = column(weight * level.sigma**2 / level.alpha, x)
        estimate: Tensor = self.denoiser(x, level, cond) + scale * gradient
        return estimate

    def _gradient(self, x: Tensor, level: Level[Any], cond: Condition) -> Tensor:
        """grad_x log p; a part of the caller's graph if there is one."""
        recorded = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            point = x if recorded else x.detach().clone().requires_grad_()
            log_p = self.log_prob(point, level, cond)
            if log_p.shape != (len(x),) or not log_p.requires_grad:
                raise ValueError(
                    f"log_prob must return ({len(x)},), one number for each sample, differentiable in x, got "
                    f"shape {tuple(log_p.shape)}, {'with' if log_p.requires_grad else 'without'} a gradient"
                )
            (gradient,) = torch.autograd.grad(log_p.sum(), point, create_graph=recorded)
        return gradient
