"""Energies of samples in groups of coordinates of an orthonormal basis."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..devices import exact

Basis = Callable[[Tensor], Tensor]  # from samples (B, ...) to coordinates (B, d); linear and orthonormal


@dataclass(frozen=True, eq=False)
class Bands:
    """Energies of the differences from the mean, in groups of coordinates of an orthonormal basis.

    Args:
        mean: the mean of the targets, ``(...)``.
        to_basis: maps samples ``(B, ...)`` to coordinates ``(B, d)``.
        membership: ``(d, bands)`` in float64, 1 where a coordinate is in a band. (A product with this matrix
            gives the same bits in every run, also on a GPU, where index_add does not.)
        energy: the energies of the targets, averaged over samples, ``(bands,)``.
    """

    mean: Tensor
    to_basis: Basis
    membership: Tensor
    energy: Tensor

    @classmethod
    def of(cls, targets: Tensor, count: int = 8) -> "Bands":
        """Radial bands of the cosine transform for images ``(B, C, H, W)``; else of principal components.

        Bands without energy are left out: radii that a small image does not have, constant channels.
        """
        mean = targets.mean(0)
        if targets.ndim == 4:
            to_basis, band = _cosine_basis(targets, count)
        else:
            to_basis, band = _principal_components((targets - mean).flatten(1), count)
        membership = exact(nn.functional.one_hot(band))
        bands = cls(mean, to_basis, membership, membership.sum(0))
        energy = bands.batch_energy(bands.project(targets)) / len(targets)
        present = energy > 1e-9 * energy.sum()
        return replace(bands, membership=membership[:, present], energy=energy[present])

    def project(self, x: Tensor) -> Tensor:
        """The coordinates ``(B, d)`` of x less the mean."""
        return self.to_basis(x - self.mean)

    def energies(self, coordinates: Tensor) -> Tensor:
        """The energies of each sample, ``(B, bands)`` in float64."""
        return exact(coordinates).square() @ self.membership

    def batch_energy(self, coordinates: Tensor, other: Tensor | None = None) -> Tensor:
        """Sums over a batch of squares, or of products with ``other``, ``(bands,)`` in float64."""
        products = (coordinates * (coordinates if other is None else other)).to(self.membership.device)
        return products.sum(0, dtype=torch.float64) @ self.membership


def _cosine_basis(images: Tensor, count: int) -> tuple[Basis, Tensor]:
    """The orthonormal cosine transform, and bands of equal width in the radius, for each channel."""
    channels, height, width = images.shape[1:]
    rows, columns = (_cosine_matrix(n).to(images) for n in (height, width))
    radius = (
        (torch.arange(height, device=images.device) / height)[:, None] ** 2
        + (torch.arange(width, device=images.device) / width) ** 2
    ).sqrt()
    ring = (radius / math.sqrt(2) * count).long().clamp(max=count - 1)
    band = torch.cat([(ring + count * c).flatten() for c in range(channels)])
    return lambda x: (rows @ x @ columns.T).flatten(1), band


def _cosine_matrix(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64)
    matrix = (math.pi / n * (k + 0.5) * k[:, None]).cos() * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def _principal_components(x: Tensor, count: int) -> tuple[Basis, Tensor]:
    """Principal components, largest first, split into groups of (nearly) equal size."""
    vectors = torch.linalg.eigh((exact(x).T @ exact(x)) / len(x))[1].flip(1).to(x)
    d = vectors.shape[1]
    band = torch.arange(d, device=x.device) * min(count, d) // d
    return lambda x: x.flatten(1) @ vectors, band
