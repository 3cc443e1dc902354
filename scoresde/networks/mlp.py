"""A residual network for vectors."""

from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import LABEL_SPAN, MAX_LAYERS, Sinusoidal, condition


class MLP(nn.Module):
    """Residual layers on a vector, conditioned on the noise level.

    ``forward(x, t, cond=None)``: x ``(B, size)``; t ``(B,)``, of order 1, as :class:`scoresde.Denoiser`
    passes it for every SDE; cond ``(B,)``, labels in ``[0, classes]``, where ``classes``, and None, is *no
    class*. Returns ``(B, size)``.

    Args:
        size: length of the vector, at least 1.
        width: of the hidden layers, even.
        layers: number of residual layers, 1 to 1,000.
        classes: number of classes; 0 for a network without labels.

    Raises:
        ValueError: a size outside its range; later, vectors of another size, or labels without classes.
    """

    label_span = LABEL_SPAN

    def __init__(self, size: int = 2, width: int = 128, layers: int = 3, classes: int = 0) -> None:
        super().__init__()
        if layers > MAX_LAYERS:
            raise ValueError(f"layers must be at most {MAX_LAYERS:,}, got {layers:,}")
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
        emb = condition(self.level, self.label, t, cond)
        h = self.enter(x)
        for layer in self.layers:
            h = h + layer(h + emb)
        out: Tensor = self.leave(F.silu(h))
        return out
