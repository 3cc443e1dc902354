"""Hashes: integers that look as if they were drawn at random, each a function of an integer."""

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .constants import constants

_WORD = 2**32 - 1
_RANGE = 2**64  # torch has signed integers: products are equal modulo 2^64
_STEP = constants(torch.int64, 0x9E3779B97F4A7C15 - _RANGE)
_FACTORS = constants(torch.int64, 0xBF58476D1CE4E5B9 - _RANGE, 0x94D049BB133111EB - _RANGE)
_FOLDS = [constants(torch.int64, by, 2 ** (64 - by) - 1) for by in (30, 27, 31)]


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox-4x32-10: four words of 32 bits, a one-to-one function of four words for each key of two.

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = q >> 32 ^ c1 ^ k0, q & _WORD, p >> 32 ^ c3 ^ k1, p & _WORD
        k0, k1 = k0 + 0x9E3779B9 & _WORD, k1 + 0xBB67AE85 & _WORD
    return c0, c1, c2, c3


def counters(n: Tensor) -> Tensor:
    """Where SplitMix64 stands after n steps from 0, modulo 2^64: n times an odd number; n is overwritten."""
    (step,) = _STEP[is_compiling()]
    return n.mul_(step)


def splitmix(x: Tensor, key: Tensor | None = None) -> Tensor:
    """The output of SplitMix64 at x: 64 bits, a one-to-one function of x for each ``key``.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", with the constants that they
    take from Stafford (variant 13). Without a key it is their function; we differ in the key, whose bits are
    added modulo 2 after the first product. Streams that meet in some x part again, for their keys differ.

    Args:
        x: int64; it is overwritten.
        key: int64, of a shape that expands to that of x.
    """
    spare = torch.empty_like(x)
    first, second = _FACTORS[is_compiling()]
    _fold(x, 0, spare).mul_(first)
    if key is not None:
        x.bitwise_xor_(key)
    _fold(x, 1, spare).mul_(second)
    return _fold(x, 2, spare)


def _fold(x: Tensor, which: int, spare: Any) -> Tensor:
    """x xor (x >> by), without the copies of the sign that the shift of torch puts in front."""
    by, mask = _FOLDS[which][is_compiling()]
    torch.bitwise_right_shift(x, by, out=spare)
    return x.bitwise_xor_(spare.bitwise_and_(mask))
