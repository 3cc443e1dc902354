"""Products by row: the result of a sample does not depend on the other samples of its batch."""

from torch import Tensor


def times(x: Tensor, matrix: Tensor) -> Tensor:
    """``x @ matrix.T``, ``(B, m)``, for x ``(B, d)`` and a contiguous matrix ``(m, d)``.

    A plain product sums in an order that depends on B, so its last bits depend on the batch.
    """
    return (x[:, None] @ matrix.mT.expand(len(x), -1, -1))[:, 0]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each sample, ``(B,)``, for a and b ``(B, ...)``."""
    return (a * b).flatten(1).sum(1)
