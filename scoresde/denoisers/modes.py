"""Whether a network is in a mode in which its output is not a function of its input."""

import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn


def warn_if_training(denoiser: Any, stacklevel: int) -> None:
    """Warn if dropout or batch normalisation of a denoiser's network is in training mode.

    Samples then differ from run to run, or depend on their batch.
    """
    if any(map(_varies, training_modules(denoiser))):
        warnings.warn(
            "the network is in training mode: its dropout or batch normalisation changes samples from "
            "run to run, or with their batch; call its eval() first",
            stacklevel=stacklevel,
        )


def training_modules(denoiser: Any) -> Iterator[nn.Module]:
    """The modules of a denoiser and of its network that are in training mode."""
    for part in (denoiser, getattr(denoiser, "net", None)):
        if isinstance(part, nn.Module):
            yield from (module for module in part.modules() if module.training)


def _varies(module: nn.Module) -> bool:
    dropout = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else None
    if dropout is None:  # of attention and of recurrent layers
        dropout = getattr(module, "dropout", None)
    drops = isinstance(dropout, float | int) and dropout > 0
    return drops or isinstance(module, nn.modules.batchnorm._BatchNorm)
