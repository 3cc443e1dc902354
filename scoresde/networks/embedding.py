"""Features of the noise level."""

import math

import torch
from torch import Tensor, nn

MOST = 1000  # layers of a kind in a network: to try a million takes minutes
SPAN = 8.0  # labels as far apart as this look the same to the lowest frequency, and to all others


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
        # In float32 at least: of 64 cycles in bfloat16, nothing would be left.
        freqs = self.freqs.to(torch.promote_types(self.freqs.dtype, torch.float32))
        angles = t.to(freqs.dtype)[:, None] * freqs
        return torch.cat([angles.cos(), angles.sin()], 1).to(self.freqs.dtype)


class Fourier(Sinusoidal):
    """The same with random frequencies that are drawn once, normal with deviation ``scale``.

    Tancik et al. 2020, arXiv 2006.10739; Song et al. 2021, arXiv 2011.13456.
    """

    def __init__(self, size: int, scale: float = 4.0) -> None:
        super().__init__(size)
        self.freqs.normal_(std=2 * math.pi * scale)
