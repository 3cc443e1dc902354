"""The posterior of a denoiser's data, given an observation."""

import copy
import warnings
from typing import Any, Self

import torch
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser, checked
from ..processes.level import Level
from .cost import Cost, cost_at
from .covariances import Covariance, Isotropic, Vjp
from .observed import Observed


class Posterior(Wrapper):
    """E[x_0 | x_t, y] for y = A x_0 + tau n, from D = E[x_0 | x_t] and a covariance of x_0 given x_t.

    D_y = D + L A^T (A R A^T + tau^2 I)^-1 (y - A D); the covariance chooses L and R
    (:mod:`scoresde.conditioning.covariances`). It is exact where x_0 given x_t is normal with the covariance
    L = R. Each solver serves it like any denoiser. The methods of the literature are choices of L and R
    (:mod:`scoresde.conditioning.peers`).

    Without gradients the result keeps no graph, and parameters of the network collect no gradients. With
    them, the result is differentiable, so posteriors nest: the posterior of a posterior has both
    observations.

    Args:
        denoiser: D.
        observed: the operator, the observation and its noise. If ``observed.y`` is None, the condition of a
            call is the pair ``(inner, y)``: what the denoiser inside takes, and y ``(B, ...)``.
        covariance: L and R; default, :class:`Isotropic`.

    Raises:
        ValueError: a covariance of other samples than the observation's; later, before the network is called,
            an x or a y of another shape, or alpha = 0 where the covariance needs the network's derivative;
            an estimate that cannot be differentiated where it is needed.

    Warns:
        UserWarning: derivatives of a network in a precision below float32.
    """

    def __init__(
        self, denoiser: DenoiserLike, observed: Observed, covariance: Covariance | None = None
    ) -> None:
        self.denoiser, self.observed = as_denoiser(denoiser), observed
        self.covariance: Covariance = Isotropic() if covariance is None else covariance
        self._gain = self.covariance.gain(observed)
        self._warn_of_precision()

    @property
    def classes(self) -> int | None:
        """The number of classes of the denoiser inside; None where the condition is a pair."""
        return None if self.observed.y is None else self.denoiser.classes

    def at(self, dtype: torch.dtype | None) -> Self:
        """The same posterior of the denoiser in another precision."""
        other = copy.copy(self)
        other.denoiser = self.denoiser.at(dtype)
        other._warn_of_precision()
        return other

    def checked(self, cond: Condition, path: str = "cond") -> Condition:
        """The condition of the denoiser inside, checked; or the pair of it and y, both checked."""
        if self.observed.y is not None:
            return super().checked(cond, path)
        inner, y = _pair(cond, path)
        if not (y.is_floating_point() and torch.isfinite(y).all()):
            raise ValueError(f"{path}[1], the observations, must be finite floating-point numbers")
        return checked(self.denoiser, inner, f"{path}[0]"), y

    def cost(self, level: Level[Any]) -> Cost:
        """Calls and products of an estimate; a product goes backwards through all that the inside does."""
        inner, vjps = cost_at(self.denoiser, level), self.covariance.vjps
        return Cost(inner.calls, inner.vjps + vjps * (inner.calls + inner.vjps))

    def __call__(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        return self.with_misfit(x, level, cond)[0]

    def with_misfit(self, x: Tensor, level: Level[Any], cond: Condition = None) -> tuple[Tensor, Tensor]:
        """D_y, like x, and r^T S^-1 r, ``(B,)``, for r = y - A D and S = A R A^T + tau^2 I.

        With :class:`Isotropic` and :class:`Gaussian` covariances S depends on the level only. Then minus half
        of the second is log N(y; A D, S) in nats, apart from a constant of the level.

        Args:
            x: states ``(B, ...)``.
            level: floats, or tensors ``(B,)``.
            cond: what the denoiser inside takes; ``(inner, y)`` if ``observed.y`` is None.
        """
        inner, y = self._parts(x, level, cond)
        if self.covariance.vjps:
            estimate, vjp = self._differentiable(x, level, inner)
        else:
            estimate, vjp = self.denoiser(x, level, inner), _no_vjp
        residual = y.to(estimate) - self.observed.operator.forward(estimate)
        change, misfit = self._gain(residual, level, vjp)
        return estimate + change, misfit

    def _parts(self, x: Tensor, level: Level[Any], cond: Condition) -> tuple[Condition, Tensor]:
        """What the denoiser inside takes, and y; both fit x, and the level fits the covariance."""
        observed = self.observed
        if observed.y is not None:
            inner, y, shape = cond, observed.y, observed.shape
        else:
            inner, y = _pair(cond, "cond")
            if len(y) != len(x):
                raise ValueError(f"cond must hold an observation for each of {len(x)} samples, got {len(y)}")
            shape = observed.operator.adjoint(y[:1]).shape[1:]
        if x.shape[1:] != shape:
            what = f"samples of shape {tuple(shape or ())}, got {tuple(x.shape[1:])}"
            raise ValueError(f"x must be like the observation's, {what}")
        if self.covariance.vjps and not isinstance(level.alpha, Tensor) and level.alpha == 0:
            kind = type(self.covariance).__name__
            raise ValueError(
                f"{kind} is not defined at alpha = 0, where x_t says nothing of x_0; clip the SDE"
            )
        return inner, y

    def _differentiable(self, x: Tensor, level: Level[Any], inner: Condition) -> tuple[Tensor, Vjp]:
        """D, and v -> J^T v, one backward pass for the whole batch."""
        graph = torch.is_grad_enabled()  # of the caller, who may differentiate the result
        with torch.inference_mode(False), torch.enable_grad():
            point = x if graph and x.requires_grad else x.detach().clone().requires_grad_()
            estimate = self.denoiser(point.clone(), level, inner)  # which may write to its input
        if not estimate.requires_grad:
            raise ValueError(_NO_DERIVATIVE)

        def vjp(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(
                estimate, point, v, retain_graph=True, create_graph=graph, allow_unused=True
            )
            if product is None:
                raise ValueError(_NO_DERIVATIVE)
            return product

        return estimate, vjp

    def _warn_of_precision(self) -> None:
        dtype, kind = self.denoiser.dtype, type(self.covariance).__name__
        if self.covariance.vjps and dtype is not None and dtype.itemsize < 4:
            warnings.warn(
                f"{kind} needs the derivatives of the network, which are rough in {dtype}", stacklevel=4
            )


_NO_DERIVATIVE = (
    "the covariance needs the derivative of the estimate by x_t, but there is none: the network runs without "
    "gradients, or does not read x_t; use Isotropic or Gaussian"
)


def _pair(cond: Condition, path: str) -> tuple[Condition, Tensor]:
    """What the denoiser inside takes, and y."""
    if not (isinstance(cond, tuple | list) and len(cond) == 2 and isinstance(cond[1], Tensor)):
        raise ValueError(f"{path} must be the pair (inner, y), since each sample has its own observation y")
    inner, y = cond
    return inner, y


def _no_vjp(v: Tensor) -> Tensor:
    raise AssertionError("a covariance with vjps = 0 asked for a product")
