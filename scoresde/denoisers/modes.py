"""Whether a network is in a mode in which its output is not a function of its input."""

import warnings
from typing import Any

from torch import nn


def warn_if_training(denoiser: Any, stacklevel: int) -> None:
    """Warn if dropout or batch normalisation of a denoiser's network is in training mode.

    Samples then differ from run to run, or depend on their batch.
    """
    for part in (denoiser, getattr(denoiser, "net", None)):
        if isinstance(part, nn.Module) and any(map(_varies, part.modules())):
            warnings.warn(
                "the network is in training mode: its dropout or batch normalisation changes samples from "
                "run to run, or with their batch; call its eval() first",
                stacklevel=stacklevel,
            )
            return


def _varies(module: nn.Module) -> bool:
    dropout = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else None
    if dropout is None:  # of attention and of recurrent layers
        dropout = getattr(module, "dropout", None)
    drops = isinstance(dropout, float | int) and dropout > 0
    return module.training and (drops or isinstance(module, nn.modules.batchnorm._BatchNorm))
