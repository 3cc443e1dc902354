"""Seeds, and the global random state, which networks draw from."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from threading import RLock

import torch

_LOCK = RLock()  # one state in a process: one thread at a time


def seed_of(*numbers: int) -> int:
    """A seed for each tuple of integers of any size, unlike its neighbours'."""
    return int.from_bytes(hashlib.sha256(repr(tuple(map(index, numbers))).encode()).digest()[:7], "little")


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Begin the global random state, of the CPU and of one device, at a seed; put it back at the end.

    For what draws from no other: the first weights of a layer, and dropout. ``seed`` is an integer of any
    size. One thread at a time is within, the others wait; so several threads that train draw what one alone
    draws. A thread that draws from the global state without this lock meanwhile draws from the seed, too.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    with _LOCK, torch.random.fork_rng([device] if cuda else []):
        torch.default_generator.manual_seed(seed % 2**64)
        if cuda:  # torch.manual_seed would seed all devices
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed % 2**64)
        yield
