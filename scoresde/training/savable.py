"""Whether a network can be written to a checkpoint."""

import torch
from torch import Tensor

from ..denoiser import Denoiser, unwrapped
from .trainer import module


def check_savable(denoiser: Denoiser) -> None:
    """Find what a checkpoint cannot hold before training, not after it.

    Raises:
        TypeError: the network is no module.
        ValueError: a part of the network is wrapped, which renames its weights; two names share one tensor;
            a tensor has numbers that are not finite, or a type that cannot be checked for that.
    """
    seen: dict[int, str] = {}
    net = module(denoiser)
    for name, part in net.named_modules():
        if unwrapped(part) is not part:
            raise ValueError(
                f"{name} is wrapped by {type(part).__name__}, which renames its weights; wrap the network as "
                f"a whole, or call the part's own compile()"
            )
    for name, tensor in net.state_dict().items():
        first = seen.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if first != name:
            raise ValueError(f"{first} and {name} share their memory, which a checkpoint cannot hold")
        if not _finite(name, tensor):
            raise ValueError(f"{name} is not finite, which a checkpoint cannot hold; see persistent=False")


def _finite(name: str, tensor: Tensor) -> bool:
    try:
        return bool(torch.isfinite(tensor).all())
    except (RuntimeError, NotImplementedError):
        raise ValueError(f"{name} has the type {tensor.dtype}, which a checkpoint cannot hold") from None
