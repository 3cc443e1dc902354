"""What a tuned table is measured by: end points, robustly, and energies in bands."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..devices import exact

FAR = 4.0  # k; samples that miss by much more than the best start does in the mean count less


@dataclass(frozen=True, eq=False)
class Bands:
    """Energies of the differences from a mean, in groups of coordinates of an orthonormal basis.

    Args:
        mean: of the targets, ``(...)``.
        turn: samples ``(B, ...)`` in the basis, ``(B, d)``; linear.
        member: ``(d, bands)`` in float64, 1 where a coordinate is in a band. (Products with it are the same
            bits in any run, also on a GPU, where index_add is not.)
        energy: of the targets, ``(bands,)``, means over samples.
    """

    mean: Tensor
    turn: Callable[[Tensor], Tensor]
    member: Tensor
    energy: Tensor

    @classmethod
    def of(cls, targets: Tensor, count: int = 8) -> "Bands":
        """Radial bands of the cosine transform of images ``(B, C, H, W)``, or principal components."""
        mean = targets.mean(0)
        if targets.ndim == 4:
            turn, group = _cosines(targets, count)
        else:
            turn, group = _components((targets - mean).flatten(1), count)
        member = exact(nn.functional.one_hot(group))
        bands = cls(mean, turn, member, member.sum(0))
        energy = bands.sums(bands.turned(targets)) / len(targets)
        there = energy > 1e-9 * energy.sum()  # not of a small image's radii, or a channel that is constant
        return replace(bands, member=member[:, there], energy=energy[there])

    def turned(self, x: Tensor) -> Tensor:
        """x, less the mean, in the basis."""
        return self.turn(x - self.mean)

    def sums(self, turned: Tensor, other: Tensor | None = None) -> Tensor:
        """Of every band, the sum of squares, or of products with another, ``(bands,)`` in float64."""
        products = (turned * (turned if other is None else other)).to(self.member.device)
        return products.sum(0, dtype=torch.float64) @ self.member

    def each(self, turned: Tensor) -> Tensor:
        """The energies of every sample, ``(B, bands)`` in float64."""
        return exact(turned).square() @ self.member


def _cosines(images: Tensor, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The orthonormal cosine transform, and bands of equal width in the radius, in each channel."""
    channels, height, width = images.shape[1:]
    rows, columns = (_cosine_matrix(n).to(images) for n in (height, width))
    radius = (
        (torch.arange(height, device=images.device) / height)[:, None] ** 2
        + (torch.arange(width, device=images.device) / width) ** 2
    ).sqrt()
    band = (radius / math.sqrt(2) * count).long().clamp(max=count - 1)
    group = torch.cat([(band + count * c).flatten() for c in range(channels)])
    return lambda x: (rows @ x @ columns.T).flatten(1), group


def _cosine_matrix(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64)
    matrix = (math.pi / n * (k + 0.5) * k[:, None]).cos() * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def _components(x: Tensor, count: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Principal components, in groups of as near as may be equal numbers, largest first."""
    vectors = torch.linalg.eigh((exact(x).T @ exact(x)) / len(x))[1].flip(1).to(x)
    d = vectors.shape[1]
    group = torch.arange(d, device=x.device) * min(count, d) // d
    return lambda x: x.flatten(1) @ vectors, group


@dataclass(frozen=True, eq=False)
class Objective:
    """sum_m rho(e_m) + c^2 M gamma^2 sum_b log(E_b / E*_b)^2 / 2 + c^2 M mu |theta|^2, over c^2 M.

    e_m is the mean square of the difference of end and target of sample m; rho(e) = e, or, so that samples
    which no few steps can follow do not decide, k c^2 log(1 + e / (k c^2)); E_b are :class:`Bands`, that keep
    the variance which least squares shrinks.

    Args:
        scale: c^2.
        bands: None for none.
        gamma: weight of the bands.
        ridge: mu.
    """

    scale: float
    bands: Bands | None
    gamma: float = 1.0
    ridge: float = 1e-4
    robust: bool = True

    def value(self, errors: Tensor, energies: Tensor | None) -> float:
        """Of e ``(M,)`` and E ``(bands,)``, without the ridge."""
        errors = exact(errors) / self.scale
        total = (FAR * torch.log1p(errors / FAR) if self.robust else errors).mean()
        if self.bands is not None and energies is not None:
            total = total + self.gamma**2 / 2 * (energies / self.bands.energy).log().square().sum()
        return float(total)

    def shares(self, errors: Tensor) -> Tensor:
        """rho'(e), the weight of each sample in a Gauss-Newton step, ``(M,)``."""
        return 1 / (1 + errors / (FAR * self.scale)) if self.robust else torch.ones_like(errors)
