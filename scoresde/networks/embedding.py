"""Features of the noise level."""

import math

import torch
from torch import Tensor, nn


class Sinusoidal(nn.Module):
    """cos and sin of ``2 pi f t``, f in a geometric progression (Vaswani et al. 2017, arXiv 1706.03762).

    t ``(B,)``; returns ``(B, size)``. The frequencies run from 1/8 to 64 cycles a unit of t, for our times
    are of the order of 1; the original's run from 1 down to 1e-4, for positions counted in thousands.
    """

    freqs: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.logspace(-3, 6, size // 2, base=2.0))

    def forward(self, t: Tensor) -> Tensor:
        angles = t.to(self.freqs.dtype)[:, None] * self.freqs
        return torch.cat([angles.cos(), angles.sin()], 1)


class Fourier(Sinusoidal):
    """The same with random frequencies that are drawn once, normal with deviation ``scale``.

    Tancik et al. 2020, arXiv 2006.10739; Song et al. 2021, arXiv 2011.13456.
    """

    def __init__(self, size: int, scale: float = 4.0) -> None:
        super().__init__(size)
        self.freqs.normal_(std=2 * math.pi * scale)
