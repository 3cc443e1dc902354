"""A small U-Net for images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embedding import EMBEDDINGS, LABEL_SPAN, MAX_LAYERS, condition


class UNet(nn.Module):
    """A contracting and an expanding path with skip connections, conditioned on the noise level.

    ``forward(x, t, cond=None)``: x ``(B, in_channels, H, W)``; t ``(B,)``, of order 1, as
    :class:`scoresde.Denoiser` passes it for every SDE; cond ``(B,)``, labels in ``[0, classes]``, where
    ``classes``, and None, is *no class*. Returns ``(B, in_channels, H, W)``.

    Residual blocks as in DDPM++ (Song et al. 2021, arXiv 2011.13456, appendix H); the noise level is a scale
    and a shift (Dhariwal and Nichol 2021, arXiv 2105.05233). Two differences: attention is at the lowest
    resolution only, and squares of ``patch`` x ``patch`` pixels become channels first, which makes the outer
    level cheaper.

    Args:
        in_channels: channels of the image, at least 1.
        channels: of every level, outermost first, divisible by 8; each level has half the height and width of
            the one before.
        blocks: residual blocks of a level, 1 to 1,000.
        patch: side of the square of pixels that becomes one position; H and W must be divisible by
            ``patch * 2 ** (len(channels) - 1)``.
        classes: number of classes; 0 for a network without labels.
        embedding: features of the noise level, ``"sinusoidal"`` or ``"fourier"`` (random, fixed).
        dropout: probability in the residual blocks, during training, in [0, 1).

    Raises:
        ValueError: an argument outside its range; later, images with other channels or an H or W that is not
            divisible, or labels without classes.
    """

    label_span = LABEL_SPAN

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
        _check(in_channels, channels, blocks, patch, classes, embedding, dropout)
        self.in_channels, self.patch, self.classes = in_channels, patch, classes
        self.divisor = patch * 2 ** (len(channels) - 1)
        first, last, size = channels[0], channels[-1], 4 * channels[0]
        # The order of the layers decides the first weights of a seed.
        self.level = nn.Sequential(EMBEDDINGS[embedding](first), nn.Linear(first, size), nn.SiLU())
        self.label = nn.Embedding(classes + 1, size) if classes else None
        self.mix = nn.Linear(size, size)
        self.enter = nn.Conv2d(in_channels * patch**2, first, 3, padding=1)
        self.down, skips = _contracting(channels, blocks, size, dropout)
        self.middle = nn.ModuleList(
            [Block(last, last, size, dropout), Attention(last), Block(last, last, size, dropout)]
        )
        self.up = _expanding(channels, blocks, skips, size, dropout)
        leave = _zero(nn.Conv2d(first, in_channels * patch**2, 3, padding=1))
        self.leave = nn.Sequential(ChannelNorm(first), nn.SiLU(), leave)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.in_channels or any(side % self.divisor for side in x.shape[2:]):
            raise ValueError(
                f"x must be images (B, {self.in_channels}, H, W), H and W divisible by {self.divisor}, "
                f"got shape {tuple(x.shape)}"
            )
        emb = F.silu(self.mix(condition(self.level, self.label, t, cond)))
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


def _check(
    in_channels: int,
    channels: Sequence[int],
    blocks: int,
    patch: int,
    classes: int,
    embedding: str,
    dropout: float,
) -> None:
    if min(in_channels, blocks, patch, len(channels)) < 1 or classes < 0:
        raise ValueError(
            f"in_channels, channels, blocks and patch must be positive and classes not negative, got "
            f"{in_channels}, {tuple(channels)}, {blocks}, {patch}, {classes}"
        )
    if blocks > MAX_LAYERS:
        raise ValueError(f"blocks must be at most {MAX_LAYERS:,}, got {blocks:,}")
    if any(width < 8 or width % 8 for width in channels):
        raise ValueError(f"channels must be multiples of 8, got {tuple(channels)}")
    if embedding not in EMBEDDINGS:
        raise ValueError(f"embedding must be one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def _contracting(
    channels: Sequence[int], blocks: int, size: int, dropout: float
) -> tuple[nn.ModuleList, list[int]]:
    """The layers from the image to the lowest resolution, and the channels of all skip connections."""
    layers, width, skips = nn.ModuleList(), channels[0], [channels[0]]
    for depth, out in enumerate(channels):
        if depth:
            layers.append(Down(width))
            skips.append(width)
        for _ in range(blocks):
            layers.append(Block(width, out, size, dropout))
            width = out
            skips.append(width)
    return layers, skips


def _expanding(
    channels: Sequence[int], blocks: int, skips: list[int], size: int, dropout: float
) -> nn.ModuleList:
    """The layers from the lowest resolution to the image; each block takes the last of ``skips``."""
    layers, width = nn.ModuleList(), channels[-1]
    for depth, out in reversed(list(enumerate(channels))):
        for _ in range(blocks + 1):
            layers.append(Block(width + skips.pop(), out, size, dropout))
            width = out
        if depth:
            layers.append(Up(width, channels[depth - 1]))
            width = channels[depth - 1]
    return layers


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position.

    On a CPU with the channels last in memory, it takes half the time of a group normalisation.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two convolutions, a scale and a shift by the noise level between them, and a shortcut."""

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
