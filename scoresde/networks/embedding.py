"""Features of the noise level, and of a class label."""

import math

import torch
from torch import Tensor, nn

MAX_LAYERS = 1000  # of one kind in a network: a million would take minutes to make
LABEL_SPAN = 8.0  # the period of the lowest frequency: labels at this distance have the same features


class Sinusoidal(nn.Module):
    """cos and sin of ``2 pi f t``, f in a geometric progression (Vaswani et al. 2017, arXiv 1706.03762).

    t ``(B,)``; returns ``(B, size)``. The frequencies run from 1/8 to 64 cycles per unit of t, because our
    times are of order 1. In the paper they run from 1 down to 1e-4, for positions up to some thousands.

    Args:
        size: number of features, even.
    """

    freqs: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.logspace(-3, 6, size // 2, base=2.0))

    def forward(self, t: Tensor) -> Tensor:
        # In float32 at least: bfloat16 cannot represent an angle of 64 cycles.
        freqs = self.freqs.to(torch.promote_types(self.freqs.dtype, torch.float32))
        angles = t.to(freqs.dtype)[:, None] * freqs
        return torch.cat([angles.cos(), angles.sin()], 1).to(self.freqs.dtype)


class Fourier(Sinusoidal):
    """cos and sin of ``2 pi f t`` with fixed random frequencies f, normal with deviation ``scale``.

    Tancik et al. 2020, arXiv 2006.10739; Song et al. 2021, arXiv 2011.13456.

    Args:
        size: number of features, even.
        scale: standard deviation of the frequencies, in cycles per unit of t.
    """

    def __init__(self, size: int, scale: float = 4.0) -> None:
        super().__init__(size)
        self.freqs.normal_(std=2 * math.pi * scale)


EMBEDDINGS: dict[str, type[nn.Module]] = {"sinusoidal": Sinusoidal, "fourier": Fourier}


def condition(level: nn.Module, label: nn.Embedding | None, t: Tensor, cond: Tensor | None) -> Tensor:
    """The vector ``(B, size)`` that conditions a network: features of the level plus features of the label.

    Args:
        level: from t ``(B,)`` to ``(B, size)``.
        label: the vectors of all classes, and last the vector of *no class*; None without classes.
        t: ``(B,)``.
        cond: ``(B,)`` labels; None is *no class*.

    Raises:
        ValueError: labels for a network without classes.
    """
    if label is None:
        if cond is not None:
            raise ValueError("cond was given, but the network has no classes")
        features: Tensor = level(t)
        return features
    none = torch.full_like(t, label.num_embeddings - 1, dtype=torch.long)
    both: Tensor = level(t) + label(none if cond is None else cond)
    return both
