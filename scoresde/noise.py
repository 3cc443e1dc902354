"""Gaussian noise as a pure function of (seed, sample, draw): Philox-4x32-10, then Box-Muller."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .integer import integer

_WORD = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox-4x32-10, on int64 tensors that hold 32-bit words.

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (q >> 32 & _WORD) ^ c1 ^ k0, q & _WORD, (p >> 32 & _WORD) ^ c3 ^ k1, p & _WORD
        k0, k1 = k0 + 0x9E3779B9 & _WORD, k1 + 0xBB67AE85 & _WORD
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Noise:
    """Standard normal noise for the samples ``ids``: a draw of a sample is the same in any batch and order.

    ``noise(draw)`` returns ``(B, *shape)`` in float32; draw 0 is the initial state of a run. The global
    random state is neither read nor changed.

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
        return normal(self.seed, self.ids, self.blocks, self.shape, draw)

    @property
    def blocks(self) -> Tensor:
        """The numbers of the blocks of a sample; a block has four values."""
        return torch.arange(-(-math.prod(self.shape) // 4), device=self.ids.device)


def normal(
    seed: int | Tensor, ids: Tensor, block: Tensor, shape: tuple[int, ...], draw: int | Tensor
) -> Tensor:
    """The values of :class:`Noise`, for a seed and a draw that may be tensors."""
    zero = torch.zeros_like(ids[:, None] + block)
    low, high = ids[:, None] & _WORD, ids[:, None] >> 32 & _WORD
    key: Any = (seed & _WORD, seed >> 32 & _WORD)
    words = philox((block + zero, draw + zero, low + zero, high + zero), key)
    u, a, w, b = ((word.float() + 0.5) * 2.0**-32 for word in words)
    ru, rw = (-2 * u.log()).sqrt(), (-2 * w.log()).sqrt()
    a, b = 2 * math.pi * a, 2 * math.pi * b
    z = torch.stack([ru * a.cos(), ru * a.sin(), rw * b.cos(), rw * b.sin()], -1)
    return z.flatten(1)[:, : math.prod(shape)].reshape(-1, *shape)


def later(draw: Callable[[int], Tensor], dtype: torch.dtype = torch.float32) -> Callable[[int], Tensor]:
    """Noise for the steps of a run: draws 1, 2, ... in the state's dtype; draw 0 is the initial state."""
    return lambda i: draw(i + 1).to(dtype)
