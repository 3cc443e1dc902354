"""The exact probability flow of normal data, without a network."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..devices import exact
from ..processes.level import Level


def gaussian_factor(start: Level[Any], end: Level[Any], variance: float | Tensor) -> Any:
    """sqrt((alpha'^2 c + sigma'^2) / (alpha^2 c + sigma^2)), a float or a tensor as the variance c is.

    The probability flow of Gaussian data of mean 0 and ``variance`` c multiplies x by it from ``start`` to
    ``end``.
    """
    here, there = (level.alpha**2 * variance + level.sigma**2 for level in (start, end))
    ratio = there / here
    return ratio.sqrt() if isinstance(ratio, Tensor) else math.sqrt(ratio)


@dataclass(frozen=True, eq=False)
class GaussianFlow:
    """Moves states between noise levels by the flow of normal data, without a network call.

    x' = alpha' m + V sqrt((alpha'^2 c + sigma'^2) / (alpha^2 c + sigma^2)) V^T (x - alpha m). It is exact for
    data of mean m and covariance V diag(c) V^T. For any data it is near the exact flow while sigma / alpha is
    many times the deviation of the data, so it can replace the first step of any solver, here down to
    sigma / alpha = 20:

        flow = GaussianFlow.by_component(data)
        start = prepare("ddim", sde, 1).start
        plan = prepare("dpmpp-2m", sde, 5, Clipped(Karras(), -math.log(20)))
        x = flow(start.sigma * torch.randn(shape), start, plan.start)
        x = sample(network, plan, shape, x=x)

    To first order and for a scalar covariance it is the analytical first step of Dockhorn et al. 2022 (arXiv
    2210.05475). :class:`scoresde.solvers.AnalyticalFirstStep` is the scalar form of mean 0 as a part of a
    plan.

    Args:
        mean: m, in the shape of a sample.
        variances: c, positive; ``(d,)`` if there are ``components``, else any shape that broadcasts with a
            sample.
        components: V, ``(d, d)``, orthonormal columns, for flattened samples; default, the identity.

    Raises:
        ValueError: a variance that is not finite and positive, or shapes that do not fit.
    """

    mean: Tensor
    variances: Tensor
    components: Tensor | None = None

    def __post_init__(self) -> None:
        if not (torch.isfinite(self.variances) & (self.variances > 0)).all():
            raise ValueError(f"variances must be finite and positive, got at least {self.variances.min()}")
        shape, d = self.mean.shape, self.mean.numel()
        if self.components is None:
            given = (1,) * (len(shape) - self.variances.ndim) + self.variances.shape
            if len(given) != len(shape) or any(n not in (1, m) for n, m in zip(given, shape, strict=True)):
                what = f"samples of shape {tuple(shape)}, got {tuple(self.variances.shape)}"
                raise ValueError(f"variances must go with {what}")
        elif (self.variances.shape, self.components.shape) != ((d,), (d, d)):
            raise ValueError(
                f"variances and components must be ({d},) and ({d}, {d}), got "
                f"{tuple(self.variances.shape)} and {tuple(self.components.shape)}"
            )

    @classmethod
    def scalar(cls, data: Tensor) -> "GaussianFlow":
        """The flow for the mean of data ``(n, ...)`` and one variance over all numbers."""
        mean, away = _centred(data)
        return cls(mean, away.square().mean())

    @classmethod
    def by_channel(cls, data: Tensor) -> "GaussianFlow":
        """The flow for the mean of images ``(n, C, H, W)`` and one variance for each channel."""
        mean, away = _centred(data)
        return cls(mean, away.square().mean((0, *range(2, data.ndim)), keepdim=True)[0])

    @classmethod
    def by_component(cls, data: Tensor) -> "GaussianFlow":
        """The flow for the mean and covariance of data ``(n, ...)`` of d numbers each.

        It needs memory d^2 and time d^3. The least variance is 1e-12 of the largest.
        """
        mean, away = _centred(data)
        flat = away.flatten(1)
        variances, components = torch.linalg.eigh(flat.T @ flat / len(flat))
        return cls(mean, variances.clamp(min=1e-12 * float(variances.max())), components)

    def __call__(self, x: Tensor, start: Level[Any], end: Level[Any]) -> Tensor:
        """The states at level ``end`` from states x ``(B, ...)`` at ``start``; computed in float64."""
        wide = exact(x)
        mean, variances = (exact(value).to(wide.device) for value in (self.mean, self.variances))
        factor = gaussian_factor(start, end, variances)
        away: Tensor = wide - start.alpha * mean
        if self.components is None:
            away = away * factor
        else:
            turn = exact(self.components).to(wide.device)
            away = (away.flatten(1) @ turn * factor @ turn.T).reshape(x.shape)
        moved: Tensor = end.alpha * mean + away
        return moved.to(x)


def _centred(data: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the data and the differences from it, in float64."""
    wide = exact(data)
    mean = wide.mean(0)
    return mean, wide - mean
