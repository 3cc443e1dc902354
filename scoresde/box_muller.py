"""Normal numbers from random words, by operations that every device rounds in the same way.

IEEE 754 defines each bit of a sum, a product, a quotient and a square root. It does not define those of a
logarithm and a cosine, in which libraries differ; both are polynomials here.
"""

import math

import torch
from torch import Tensor
from torch.compiler import is_compiling

from .constants import constants

# Polynomials in s^2 of the least relative error, by the algorithm of Remez: 1.2e-7 of atanh(s) / s for
# |s| <= 3 - sqrt 8, and 3.3e-9 of sin(s) / s for |s| <= pi / 4.
ATANH = 1.00000011869, 0.333261118501, 0.206481864322
SINE = 0.999999996762, -0.166666502242, 0.00833201645313, -0.000195018220209

_ANGLE = constants(torch.float32, math.pi / 2**33, *(math.sqrt(2) * c for c in SINE), 1.0, 2.0)
_RADIUS = constants(torch.float32, 0.5, 2.0**31, *(-4 * c for c in ATANH), -2 * math.log(2) / 2**23)
_BITS = constants(torch.int32, 0x4EB504F3, -1 << 23)  # of the float32 2^31 sqrt(1/2); sign and exponent


def box_muller(a: Tensor, b: Tensor, left: Tensor, right: Tensor) -> None:
    """Two independent standard normal numbers from two random words, by Box and Muller 1958.

    With v and u uniform in (-pi/2, pi/2) and (0, 1), and a sign:

    .. math:: v = \\frac{\\pi}{2} \\frac{a}{2^{31}}, \\qquad u = \\frac{|b + 1/2|}{2^{31}}, \\qquad
        r = \\sqrt{-2 \\log u}, \\qquad (\\operatorname{sign}(b + 1/2)\\, r \\cos v, \\; r \\sin v)

    The error is at most 4e-7 r, and that of r at most 3e-7 r beyond the rounding of u to float32. As u is at
    least 2^-32, r is at most 6.66; in the exact law a larger r has the probability 2.3e-10.

    Args:
        a: int32, each value as probable as any other; it is overwritten.
        b: the same, independent of a.
        left: the first number, float32; its old values are not read.
        right: the second.
    """
    spare = torch.empty_like(a, dtype=torch.float32)
    _direction(a, b, left, right, spare)
    r = _radius(a.view(torch.float32), b, spare)
    left.mul_(r)
    right.mul_(r)


def _direction(a: Tensor, b: Tensor, cosine: Tensor, sine: Tensor, square: Tensor) -> None:
    """With s = sqrt 2 sin(v / 2): cos v = 1 - s^2, and sin v = s sqrt(2 - s^2); the memory of a is used."""
    angle, s0, s1, s2, s3, one, two = _ANGLE[is_compiling()]
    s, half = a.view(torch.float32), sine.copy_(a).mul_(angle)
    torch.mul(half, half, out=square)
    torch.mul(square, s3, out=s).add_(s2).mul_(square).add_(s1).mul_(square).add_(s0).mul_(half)
    torch.mul(s, s, out=square)
    torch.sub(square, two, out=sine).abs_().sqrt_().mul_(s)
    torch.sub(square, one, out=cosine).copysign_(b.view(torch.float32))


def _radius(r: Tensor, b: Tensor, spare: Tensor) -> Tensor:
    """With u = 2^e m, m in [sqrt(1/2), sqrt 2): log u = e log 2 + 2 atanh((m - 1) / (m + 1)).

    r need not have values; the memory of b is used.
    """
    half, whole, c0, c1, c2, log = _RADIUS[is_compiling()]
    root, exponent = _BITS[is_compiling()]
    bits = r.view(torch.int32)
    r.copy_(b).add_(half).abs_()  # 2^31 u
    e = torch.sub(bits, root, out=b).bitwise_and_(exponent)  # 2^23 e
    bits.sub_(e)  # now r is 2^31 m
    torch.add(r, whole, out=spare)
    s = r.sub_(whole).div_(spare)
    torch.mul(s, s, out=spare).mul_(c2).add_(c1).mul_(s).mul_(s).add_(c0).mul_(s)
    return r.copy_(e).mul_(log).add_(spare).sqrt_()
