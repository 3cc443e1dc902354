"""A residual network for vectors."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import MOST, SPAN, Sinusoidal


class MLP(nn.Module):
    """Residual layers on a vector, told the noise level.

    ``forward(x, t, cond=None)``: x ``(B, size)``, t ``(B,)``, cond ``(B,)`` labels in ``[0, classes]``, where
    ``classes`` itself, or no ``cond``, means *no class*; returns ``(B, size)``. t is of about one unit: a
    :class:`scoresde.Denoiser` sees to that, whatever the SDE.

    Args:
        size: length of the vector.
        width: of the hidden layers.
        layers: number of residual layers.
        classes: number of classes; 0 for a network that takes no labels.

    Raises:
        ValueError: a size that is not positive; later, vectors of another size, or labels without classes.
    """

    label_span = SPAN

    def __init__(self, size: int = 2, width: int = 128, layers: int = 3, classes: int = 0) -> None:
        super().__init__()
        if layers > MOST:
            raise ValueError(f"layers must be at most {MOST:,}, got {layers:,}")
        if min(size, width, layers) < 1 or width % 2 or classes < 0:
            raise ValueError(
                f"size, width (even) and layers must be positive and classes not negative, "
                f"got {size}, {width}, {layers}, {classes}"
            )
        self.size, self.classes = size, classes
        self.level = nn.Sequential(Sinusoidal(width), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.enter = nn.Linear(size, width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )
            for _ in range(layers)
        )
        self.leave = nn.Linear(width, size)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.ndim != 2 or x.shape[1] != self.size:
            raise ValueError(f"x must be vectors (B, {self.size}), got shape {tuple(x.shape)}")
        if cond is not None and self.label is None:
            raise ValueError("cond was given, but the network has no classes")
        emb = self.level(t)
        if self.label is not None:
            none = torch.full_like(t, self.classes, dtype=torch.long)
            emb = emb + self.label(none if cond is None else cond)
        h = self.enter(x)
        for layer in self.layers:
            h = h + layer(h + emb)
        out: Tensor = self.leave(F.silu(h))
        return out
