"""Whether a network can be written to a checkpoint."""

from ..denoisers.network import Denoiser
from ..denoisers.unwrapped import unwrapped
from ..files import check_writable
from .state import module


def check_savable(denoiser: Denoiser) -> None:
    """Find what a checkpoint cannot hold before training, not after it.

    Raises:
        TypeError: the network is no module.
        ValueError: a part of the network is wrapped, which renames its weights, or a reason of
            :func:`scoresde.files.check_writable`.
    """
    net = module(denoiser)
    for name, part in net.named_modules():
        if unwrapped(part) is not part:
            raise ValueError(
                f"{name} is wrapped by {type(part).__name__}, which renames its weights; wrap the network as "
                f"a whole, or call the part's own compile()"
            )
    check_writable(net.state_dict())
