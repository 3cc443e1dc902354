"""The network inside torch's wrappers, and its number of classes."""

from typing import Any

from torch import nn


def unwrapped(net: Any) -> Any:
    """The network inside ``torch.compile(net)`` and inside torch's two wrappers for several devices."""
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(net.module)
    inner = net._modules.get("_orig_mod") if isinstance(net, nn.Module) else None
    return net if inner is None else unwrapped(inner)


def classes_of(net: Any) -> int | None:
    """The number of classes of a network: its integer attribute ``classes``; None without one."""
    classes = getattr(unwrapped(net), "classes", None)
    return classes if isinstance(classes, int) else None
