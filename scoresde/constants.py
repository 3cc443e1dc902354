"""Constants for the operations of a formula on tensors."""

from typing import Any

import torch


def constants(dtype: torch.dtype, *values: float) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The values, first as tensors of shape () on the host, then as numbers.

    ``of[torch.compiler.is_compiling()]`` takes the quicker kind: torch makes a tensor of a number in each
    operation, which takes longer than the operation on some thousand values; ``torch.compile`` writes numbers
    into its code, and must load tensors.
    """
    return tuple(torch.tensor(value, dtype=dtype, device="cpu") for value in values), values
