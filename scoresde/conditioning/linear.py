"""Operators that are given by functions, as those of other libraries."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..integer import integer
from ..processes.level import column
from .conjugate_gradients import conjugate_gradients
from .operators import Operator


@dataclass(frozen=True)
class Linear:
    """Any linear map; ``solve`` is by conjugate gradients for each sample.

    Args:
        forward: A x, of batches.
        adjoint: A^T v, of batches; :class:`scoresde.conditioning.observed.Observed` checks it.
        iterations: of conjugate gradients, each with one call of both functions. The number of different
            eigenvalues of A A^T is enough.
        singular: whether A A^T may have no inverse; then tau must be positive.

    Raises:
        TypeError: other functions, or a number of iterations that is not an integer.
        ValueError: less than 1 iteration.
    """

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    iterations: int = 50
    singular: bool = True

    def __post_init__(self) -> None:
        for name in ("forward", "adjoint"):
            if not callable(given := getattr(self, name)):
                raise TypeError(f"{name} must be a function of a batch, got {type(given).__name__}")
        object.__setattr__(self, "iterations", integer("iterations", self.iterations, 1))

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """(r2 A A^T + tau2 I)^-1 v, to the accuracy of the iterations."""

        def apply(p: Tensor) -> tuple[Tensor, Tensor]:
            return column(r2, p) * self.forward(self.adjoint(p)) + column(tau2, p) * p, p

        return conjugate_gradients(apply, v, self.iterations)[0]


def from_deepinv(physics: Any, iterations: int = 50, *, singular: bool = True) -> Linear:
    """The operator of a linear physics of deepinv, its ``A`` and ``A_adjoint``; its noise model is not used.

    Args:
        physics: a ``LinearPhysics``, or anything with ``A`` and ``A_adjoint`` of batches.
        iterations: as for :class:`Linear`.
        singular: as for :class:`Linear`.

    Raises:
        TypeError: a physics without one of the two, as one that is not linear.
    """
    missing = [name for name in ("A", "A_adjoint") if not callable(getattr(physics, name, None))]
    if missing:
        raise TypeError(
            f"physics must have A and A_adjoint, got {type(physics).__name__} without {missing[0]}"
        )
    return Linear(physics.A, physics.A_adjoint, iterations, singular)


def matrix_of(operator: Operator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A as a matrix ``(m, d)`` for samples of a shape, in the type and on the device of ``like``."""
    unit = torch.eye(math.prod(shape), dtype=like.dtype, device=like.device)
    return operator.forward(unit.reshape(-1, *shape)).flatten(1).mT.contiguous()
