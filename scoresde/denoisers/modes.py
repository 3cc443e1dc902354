"""Whether a network is in a mode in which its output is not a function of its input."""

import warnings

from torch import nn

from .protocol import DenoiserLike, Foreign, Wrapper


def modules_of(denoiser: DenoiserLike) -> list[nn.Module]:
    """The modules that a denoiser calls: its own or a foreign callable, its network, and those inside it."""
    own = denoiser.estimate if isinstance(denoiser, Foreign) else denoiser
    found = [part for part in (own, denoiser.net) if isinstance(part, nn.Module)]
    inside = denoiser.inside if isinstance(denoiser, Wrapper) else ()
    return found + [part for other in inside for part in modules_of(other)]


def warn_if_training(denoiser: DenoiserLike, stacklevel: int) -> None:
    """Warn if dropout or batch normalisation of a denoiser is in training mode.

    Samples then differ from run to run, or depend on their batch.
    """
    if any(_varies(module) for part in modules_of(denoiser) for module in part.modules()):
        warnings.warn(
            "the network is in training mode: its dropout or batch normalisation changes samples from "
            "run to run, or with their batch; call its eval() first",
            stacklevel=stacklevel,
        )


def _varies(module: nn.Module) -> bool:
    dropout = module.p if isinstance(module, nn.modules.dropout._DropoutNd) else None
    if dropout is None:  # of attention and of recurrent layers
        dropout = getattr(module, "dropout", None)
    drops = isinstance(dropout, float | int) and dropout > 0
    return module.training and (drops or isinstance(module, nn.modules.batchnorm._BatchNorm))
