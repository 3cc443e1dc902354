"""Seeds, and the global random state, from which networks draw."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from threading import RLock

import torch

_LOCK = RLock()  # a process has one global state: one thread at a time


def seed_of(*numbers: int) -> int:
    """A seed for each tuple of integers of any size; similar tuples have unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(tuple(map(index, numbers))).encode()).digest()[:7], "little")


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global random state of the CPU and of one device; restore it at the end.

    For code that takes no generator: the first weights of a layer, and dropout. Only one thread at a time can
    be inside; others wait. So several threads that train draw the same numbers as each alone. A thread that
    draws from the global state outside of this function, at the same time, changes those numbers.

    Args:
        seed: an integer of any size.
        device: the device of the network.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    with _LOCK, torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed % 2**64)
        if cuda:  # torch.manual_seed would seed all devices
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed % 2**64)
        yield
