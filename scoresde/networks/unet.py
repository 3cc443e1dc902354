"""A small U-Net for images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import MOST, SPAN, Fourier, Sinusoidal


class UNet(nn.Module):
    """A contracting and an expanding path with skip connections, told the noise level.

    ``forward(x, t, cond=None)``: x ``(B, in_channels, H, W)``, t ``(B,)`` of about one unit, to which a
    :class:`scoresde.Denoiser` sees, whatever the SDE, cond ``(B,)`` class labels in ``[0, classes]``, where
    ``classes`` itself, or no ``cond``, means *no class*; returns ``(B, in_channels, H, W)``.

    Residual blocks as in DDPM++ (Song et al. 2021, arXiv 2011.13456, appendix H), with the noise level as a
    scale and a shift (Dhariwal and Nichol 2021, arXiv 2105.05233), attention at the lowest resolution only,
    and, unlike them, pixels folded into channels in ``patch`` x ``patch`` blocks first, which divides the
    cost of the outer level.

    Args:
        in_channels: channels of the image.
        channels: of every level, outermost first; each further level has half the height and width.
        blocks: residual blocks of a level.
        patch: side of the square of pixels that becomes one position; H and W must be divisible by
            ``patch * 2 ** (len(channels) - 1)``.
        classes: number of classes; 0 for a network that takes no labels.
        embedding: features of the noise level, ``"sinusoidal"`` or ``"fourier"`` (random, fixed).
        dropout: probability within the residual blocks, during training.

    Raises:
        ValueError: a size that is not positive, channels not divisible by 8, or an unknown embedding; later,
            images of other channels or of an H or W that is not divisible, or labels without classes.
    """

    label_span = SPAN

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128),
        blocks: int = 2,
        patch: int = 1,
        classes: int = 0,
        embedding: str = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(in_channels, blocks, patch, len(channels)) < 1 or classes < 0:
            raise ValueError(
                f"in_channels, channels, blocks and patch must be positive and classes not negative, got "
                f"{in_channels}, {tuple(channels)}, {blocks}, {patch}, {classes}"
            )
        if blocks > MOST:
            raise ValueError(f"blocks must be at most {MOST:,}, got {blocks:,}")
        if any(width < 8 or width % 8 for width in channels):
            raise ValueError(f"channels must be multiples of 8, got {tuple(channels)}")
        if embedding not in EMBEDDINGS:
            raise ValueError(f"embedding must be one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.in_channels, self.patch, self.classes = in_channels, patch, classes
        self.divisor = patch * 2 ** (len(channels) - 1)

        width = channels[0]
        size = 4 * width
        self.level = nn.Sequential(EMBEDDINGS[embedding](width), nn.Linear(width, size), nn.SiLU())
        self.label = nn.Embedding(classes + 1, size) if classes else None
        self.mix = nn.Linear(size, size)

        self.enter = nn.Conv2d(in_channels * patch**2, width, 3, padding=1)
        self.down = nn.ModuleList()
        skips = [width]
        for depth, out in enumerate(channels):
            if depth:
                self.down.append(Down(width))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(Block(width, out, size, dropout))
                width = out
                skips.append(width)
        self.middle = nn.ModuleList(
            [Block(width, width, size, dropout), Attention(width), Block(width, width, size, dropout)]
        )
        self.up = nn.ModuleList()
        for depth, out in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(Block(width + skips.pop(), out, size, dropout))
                width = out
            if depth:
                self.up.append(Up(width, channels[depth - 1]))
                width = channels[depth - 1]
        last = _zero(nn.Conv2d(width, in_channels * patch**2, 3, padding=1))
        self.leave = nn.Sequential(ChannelNorm(width), nn.SiLU(), last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or any(side % self.divisor for side in x.shape[2:]):
            raise ValueError(
                f"x must be images (B, {self.in_channels}, H, W), H and W divisible by {self.divisor}, "
                f"got shape {tuple(x.shape)}"
            )
        if cond is not None and self.label is None:
            raise ValueError("cond was given, but the network has no classes")
        emb = self.level(t)
        if self.label is not None:
            none = torch.full_like(t, self.classes, dtype=torch.long)
            emb = emb + self.label(none if cond is None else cond)
        emb = F.silu(self.mix(emb))
        h = self.enter(F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last))
        skips = [h]
        for layer in self.down:
            h = layer(h, emb)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, emb)
        for layer in self.up:
            h = layer(h if isinstance(layer, Up) else torch.cat([h, skips.pop()], 1), emb)
        return F.pixel_shuffle(self.leave(h), self.patch)


EMBEDDINGS: dict[str, type[nn.Module]] = {"sinusoidal": Sinusoidal, "fourier": Fourier}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position.

    Half the time of a group normalisation on a CPU, where the channels lie last in memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two convolutions, the noise level between them, and a shortcut."""

    def __init__(self, width: int, out: int, size: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(ChannelNorm(width), nn.SiLU(), nn.Conv2d(width, out, 3, padding=1))
        self.affine = nn.Linear(size, 2 * out)
        self.norm = ChannelNorm(out)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), _zero(nn.Conv2d(out, out, 3, padding=1)))
        self.shortcut = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, 1)
        h = self.norm(self.first(x)) * (1 + scale) + shift
        out: Tensor = self.shortcut(x) + self.second(h)
        return out


class Attention(nn.Module):
    """Self-attention over positions, with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = _zero(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, -1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape_as(x)
        out: Tensor = x + self.out(h)
        return out


class Down(nn.Module):
    """Half the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Up(nn.Module):
    """Twice the height and width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all parameters zero, so that a block begins as its shortcut."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
