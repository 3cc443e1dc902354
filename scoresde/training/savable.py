"""Can a checkpoint hold a network?"""

from ..denoisers.network import Denoiser
from ..denoisers.unwrapped import unwrapped
from ..files import check_writable
from .state import module


def check_savable(denoiser: Denoiser) -> None:
    """Refuse, before training, a network that no checkpoint can hold.

    Raises:
        TypeError: the network is not a module.
        ValueError: a wrapper around a part of the network, which renames its weights; or a reason of
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
