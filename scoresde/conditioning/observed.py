"""What is known of a sample: an operator, the observation and its noise."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..devices import exact
from .operators import Operator

TOLERANCE = 1e-4  # relative, of the adjoint; float32 operators are within 1e-5


@dataclass(frozen=True, eq=False)
class Observed:
    """y = A x_0 + tau n, n standard normal noise: the knowledge of one sample or of many.

    Args:
        operator: A (:mod:`scoresde.conditioning.operators`). With y it is checked: that two calls of
            ``forward`` agree, and that ``adjoint`` is the adjoint of ``forward``, by one random pair.
        y: the observation of all samples, ``(1, ...)``, in units of the data; None if each sample has its
            own, which then travels in ``cond``: ``cond = (inner, y)``, with y ``(B, ...)`` and ``inner`` what
            the denoiser inside takes, or None.
        tau: the deviation of the noise in units of the data, at least 0. In pictures in [-1, 1] it is twice
            as large as in [0, 1].

    Raises:
        TypeError: an operator without forward, adjoint or solve; y is not a tensor.
        ValueError: a y of another shape, of complex numbers or not finite; another tau; tau = 0 where A A^T
            is singular; an ``adjoint`` that is not the adjoint of ``forward``.
    """

    operator: Operator
    y: Tensor | None
    tau: float
    shape: torch.Size | None = field(init=False, repr=False)  # of a sample, if y is given

    def __post_init__(self) -> None:
        for name in ("forward", "adjoint", "solve"):
            if not callable(getattr(self.operator, name, None)):
                raise TypeError(f"operator must have forward, adjoint and solve, {self._given} has no {name}")
        tau = float(self.tau)
        if not (tau >= 0 and tau * tau < math.inf):
            raise ValueError(f"tau must be finite and not negative, got {self.tau}")
        if tau == 0 and getattr(self.operator, "singular", True):
            raise ValueError(f"tau must be positive for {self._given}, whose A A^T has no inverse, got 0")
        object.__setattr__(self, "tau", tau)
        object.__setattr__(self, "shape", None if self.y is None else self._shape_of(self.y))

    @property
    def _given(self) -> str:
        return type(self.operator).__name__

    def _shape_of(self, y: Any) -> torch.Size:
        """The shape of a sample, from y; y and the operator are checked."""
        if not isinstance(y, Tensor):
            raise TypeError(f"y must be a tensor or None, got {type(y).__name__}")
        if y.is_complex():
            raise ValueError(
                "y must be real, got complex numbers: use torch.view_as_real, in the operator too"
            )
        if y.ndim < 2 or len(y) != 1:
            raise ValueError(
                f"y must be one observation for all samples, (1, ...), got {tuple(y.shape)}; for one of each "
                f"sample use Observed(operator, None, tau), and give y in cond"
            )
        if not (y.is_floating_point() and torch.isfinite(y).all()):
            raise ValueError(f"y must hold finite floating-point numbers, got {y.dtype}")
        shape = self.operator.adjoint(y).shape[1:]
        _check(self.operator, shape, y)
        return shape


def _check(operator: Operator, shape: torch.Size, y: Tensor) -> None:
    """ValueError unless the operator maps samples of ``shape`` to y's and its adjoint is one."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, *shape, generator=draw, dtype=torch.float64).to(y)
    seen = operator.forward(x)
    if seen.shape != y.shape:
        raise ValueError(
            f"y must have the shape of an observation, {tuple(seen.shape)}, got {tuple(y.shape)}"
        )
    if not torch.allclose(seen, operator.forward(x), rtol=TOLERANCE, atol=TOLERANCE):
        raise ValueError("operator must be the same in each call: two calls of its forward differ")
    # Near A x, so that the products are not small by chance.
    other = seen + seen.square().mean() ** 0.5 * torch.randn(y.shape, generator=draw, dtype=torch.float64).to(
        y
    )
    left = (exact(seen) * exact(other)).sum()
    right = (exact(x) * exact(operator.adjoint(other))).sum()
    if not (left - right).abs() <= TOLERANCE * left.abs():
        raise ValueError(f"operator's adjoint is none: <A x, v> = {left:.6g}, but <x, A^T v> = {right:.6g}")
