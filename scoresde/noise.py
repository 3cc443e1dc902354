"""Gaussian noise as a pure function of (seed, sample, draw)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .box_muller import box_muller
from .hashes import counters, philox, splitmix
from .integer import integer

_WORD = 2**32 - 1

# Pairs of values at a time: on a CPU what a cache holds, on a GPU more, where each operation has a price.
PAIRS = 2**16
PAIRS_ON_A_GPU = 2**22


@dataclass(frozen=True)
class Noise:
    """Standard normal noise for the samples ``ids``: a draw of a sample is the same in any batch and order.

    ``noise(draw)`` returns ``(B, *shape)`` in float32; draw 0 is the initial state of a run. The global
    random state is neither read nor changed. IEEE 754 defines each operation to the bit, so that a CPU and a
    CUDA device agree.

    Three hashes lead to a value. Philox makes two numbers of 64 bits from seed and draw: the starts of two
    streams of SplitMix64. The numbers ``id`` of these streams are the two keys of a sample: the start of its
    own stream, and the key of its hash. Number k of that stream makes, by Box-Muller, the values k and k + P
    of the flattened sample, where P is half of its size, rounded up; so a value depends on this size, too.
    In one draw no two samples have the same keys, and no number of 64 bits comes twice in a sample. The keys
    of two samples in different draws or seeds agree by chance only, as random numbers of 128 bits do. No
    value is beyond 6.66 deviations.

    Args:
        seed: any integer; its lowest 64 bits count.
        ids: the numbers of the samples, int64 ``(B,)``, on the device of the noise.
        shape: the shape of one sample.
    """

    seed: int
    ids: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer("seed", self.seed))

    def __call__(self, draw: int) -> Tensor:
        size, pairs, device = math.prod(self.shape), pairs_of(self.shape), self.ids.device
        if torch.compiler.is_compiling():  # a compiler places its results in memory itself
            return normal(*starts(self.seed, draw), self.ids, torch.arange(pairs, device=device), self.shape)
        z = torch.empty(len(self.ids), 2 * pairs, dtype=torch.float32, device=device)
        at_once = PAIRS if device.type == "cpu" else PAIRS_ON_A_GPU
        parts = -(-len(z) * (pairs + 1) // at_once)  # one for the keys of a sample
        first, second = starts(self.seed, draw)
        for ids, part in zip(self.ids.chunk(max(parts, 1)), z.chunk(max(parts, 1)), strict=True):
            start, key = keys(first, second, ids)
            steps = counters(torch.arange(pairs, device=device))
            x = torch.add(steps, start, out=part.view(torch.int64))
            del steps
            _fill(x, key, part[:, :pairs], part[:, pairs:])
        return z[:, :size].reshape(len(z), *self.shape).contiguous()


def pairs_of(shape: tuple[int, ...]) -> int:
    """The number of pairs of values of a sample."""
    return -(-math.prod(shape) // 2)


def starts(seed: int, draw: int) -> tuple[int, int]:
    """Two hashes of the seed and the number of the draw, as signed numbers of 64 bits."""
    w = philox((draw & _WORD, draw >> 32 & _WORD, 0, 0), (seed & _WORD, seed >> 32 & _WORD))
    first, second = w[1] << 32 | w[0], w[3] << 32 | w[2]
    return first - (first >> 63 << 64), second - (second >> 63 << 64)


def keys(first: Any, second: Any, ids: Tensor) -> Tensor:
    """The two keys of each sample, ``(2, B, 1)``; ``first`` and ``second`` are numbers or tensors."""
    x = counters(ids.expand(2, -1).clone())
    x[0].add_(first)
    x[1].add_(second)
    return splitmix(x).unsqueeze(-1)


def normal(first: Any, second: Any, ids: Tensor, block: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The values of :class:`Noise`, written for ``torch.compile``: in one piece, from tensors.

    Args:
        first: of :func:`starts`.
        second: of :func:`starts`.
        ids: as in :class:`Noise`.
        block: the numbers of the pairs of a sample, int64.
        shape: as in :class:`Noise`.
    """
    start, key = keys(first, second, ids)
    x = counters(block.clone()) + start
    left, right = (torch.empty_like(x, dtype=torch.float32) for _ in range(2))
    _fill(x, key, left, right)
    return torch.cat([left, right], 1)[:, : math.prod(shape)].reshape(len(x), *shape)


def _fill(x: Tensor, key: Tensor, left: Tensor, right: Tensor) -> None:
    """Normal numbers from the places x of streams; left and right may lie in the memory of x."""
    splitmix(x, key)
    a = x.int()  # the low 32 bits
    b = x.bitwise_right_shift_(32).int()
    box_muller(a, b, left, right)


def later(draw: Callable[[int], Tensor], dtype: torch.dtype = torch.float32) -> Callable[[int], Tensor]:
    """Noise for the steps of a run: draws 1, 2, ... in the state's dtype; draw 0 is the initial state."""
    return lambda i: draw(i + 1).to(dtype)
