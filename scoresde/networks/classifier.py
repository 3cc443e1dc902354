"""A small classifier of images. Its last features are the features of the Frechet distance."""

import torch
from torch import Tensor, nn

from ..data.pixels import to_float


class Classifier(nn.Module):
    """Five convolutions and two linear layers for 28x28 pixels of one channel, 92 thousand parameters.

    ``forward(x)``: x ``(B, 1, 28, 28)`` uint8; returns logits ``(B, classes)``. The classifier scales the
    pixels itself, so that data and samples have the same scale. Convolutions with batch normalisation and
    ReLU (Ioffe and Szegedy 2015, arXiv 1502.03167).

    Args:
        classes: number of classes, at least 2.

    Raises:
        ValueError: fewer than 2 classes; later, images of another shape or type.
    """

    SIZE = 64  # of the features

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.body = nn.Sequential(
            _layer(1, 32, side=5, stride=2),  # 14 x 14
            _layer(32, 32),
            _layer(32, 48, stride=2),  # 7 x 7
            _layer(48, 48),
            _layer(48, 32, stride=2),  # 4 x 4
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, self.SIZE),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.SIZE, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, x: Tensor) -> Tensor:
        """The input of the last layer, ``(B, 64)``."""
        if x.dtype != torch.uint8 or x.shape[1:] != (1, 28, 28):
            raise ValueError(f"images must be (B, 1, 28, 28) uint8, got {tuple(x.shape)} {x.dtype}")
        scaled = to_float(x).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.body(scaled)
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


def _layer(width: int, out: int, side: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width, out, side, stride, padding=side // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
