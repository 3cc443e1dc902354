"""The posterior of a denoiser's data, given an observation."""

import copy
import warnings
from typing import Any, Self

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike, Wrapper, as_denoiser
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
        observed: the operator, the observation and its noise. With ``observed.y`` None the condition of a
            call is the pair ``(inner, y)``.
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

    def cost(self, level: Level[Any]) -> Cost:
        """Calls and products of an estimate; a product goes backwards through all that the inside does."""
        inner, vjps = cost_at(self.denoiser, level), self.covariance.vjps
        return Cost(inner.calls, inner.vjps + vjps * (inner.calls + inner.vjps))

    def __call__(self, x: Tensor, level: Level[Any], cond: Any = None) -> Tensor:
        return self.with_misfit(x, level, cond)[0]

    def with_misfit(self, x: Tensor, level: Level[Any], cond: Any = None) -> tuple[Tensor, Tensor]:
        """D_y, like x, and r^T S^-1 r, ``(B,)``, for r = y - A D and S = A R A^T + tau^2 I.

        With :class:`Isotropic` and :class:`Gaussian` covariances, S depends on the level only, so minus half
        of the second is log p(y | x_t) in nats, apart from roundings of the approximation and a constant of
        the level.

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

    def _parts(self, x: Tensor, level: Level[Any], cond: Any) -> tuple[Any, Tensor]:
        """What the denoiser inside takes, and y; both fit x."""
        observed, y = self.observed, self.observed.y
        shape = observed.shape
        if y is None:
            if not (isinstance(cond, tuple | list) and len(cond) == 2 and isinstance(cond[1], Tensor)):
                raise ValueError(
                    "cond must be the pair (inner, y), because the observation is y of each sample"
                )
            cond, y = cond
            if len(y) != len(x):
                raise ValueError(f"cond must hold an observation for each of {len(x)} samples, got {len(y)}")
            shape = observed.operator.adjoint(y[:1]).shape[1:]
        if x.shape[1:] != shape:
            raise ValueError(
                f"the observation is of samples of shape {tuple(shape or ())}, got {tuple(x.shape[1:])}"
            )
        if self.covariance.vjps and not isinstance(level.alpha, Tensor) and level.alpha == 0:
            kind = type(self.covariance).__name__
            raise ValueError(
                f"{kind} is not defined at alpha = 0, where x_t says nothing of x_0; clip the SDE"
            )
        return cond, y

    def _differentiable(self, x: Tensor, level: Level[Any], inner: Any) -> tuple[Tensor, Vjp]:
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

        return estimate if graph else estimate.detach(), vjp

    def _warn_of_precision(self) -> None:
        dtype = self.denoiser.dtype
        if self.covariance.vjps and dtype is not None and dtype.itemsize < 4:
            kind = type(self.covariance).__name__
            warnings.warn(
                f"{kind} needs the derivatives of the network, which are rough in {dtype}", stacklevel=4
            )


_NO_DERIVATIVE = (
    "the covariance needs the derivative of the estimate by x_t, but there is none: the network runs without "
    "gradients, or does not read x_t; use Isotropic or Gaussian"
)


def _no_vjp(v: Tensor) -> Tensor:
    raise AssertionError("a covariance with vjps = 0 asked for a product")
