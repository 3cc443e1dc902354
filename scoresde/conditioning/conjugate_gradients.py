"""Conjugate gradients for each sample of a batch, with a fixed number of iterations."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..processes.level import per_sample
from .rows import dot

Apply = Callable[[Tensor], tuple[Tensor, Tensor]]  # p -> S p and B p


def conjugate_gradients(apply: Apply, right: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """B S^-1 b, and b^T S^-1 b ``(B,)``, for symmetric positive S and b = ``right`` ``(B, ...)``.

    The solution is a sum of directions p. B is linear, so the same sum of the B p, which ``apply`` computes
    on its way to S p, needs no further product. Nothing waits for the device: a sample that has converged,
    or meets a direction in which S is not positive, takes steps of length 0.

    Args:
        apply: S p and B p, for p like b.
        right: b.
        iterations: at least 1; as many as b has numbers solve the system, apart from roundings.

    Source: Hestenes and Stiefel 1952, from 0; b^T S^-1 b is their sum of a |r|^2.
    """
    residual = direction = right
    square = dot(right, right)
    least = square * torch.finfo(square.dtype).eps ** 2  # what is left of b is then a rounding
    found: Tensor | None = None
    quadratic = square.new_zeros(square.shape)
    for _ in range(iterations):
        product, seen = apply(direction)
        step = _ratio(square, dot(direction, product)).where(square > least, 0)
        part = per_sample(step, seen) * seen
        found = part if found is None else found + part
        quadratic = quadratic + step * square
        residual = residual - per_sample(step, product) * product
        before, square = square, dot(residual, residual)
        direction = residual + per_sample(_ratio(square, before), direction) * direction
    assert found is not None
    return found, quadratic


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below where below is positive, else 0."""
    positive = below > 0
    return (above / below.where(positive, below.new_ones(()))).where(positive, above.new_zeros(()))
