"""The Frechet distance."""

from collections.abc import Callable

import torch
from torch import Tensor

from .moments import Moments, check_lengths


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance of the Gaussian distributions with these means and covariances.

    |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1^1/2 S_2 S_1^1/2)^1/2), at least 0 (Dowson and Landau 1982, Journal
    of Multivariate Analysis 12, 450-455; Heusel et al. 2017, arXiv 1706.08500, eq. 6). The last trace is the
    sum of the singular values of S_1^1/2 S_2^1/2. This sum is exact without full rank too; the square roots
    of the eigenvalues of S_1^1/2 S_2 S_1^1/2 would lose half the digits there. With the features of Inception
    it is FID. Fewer samples give a larger distance: compare equal numbers of samples.

    Raises:
        ValueError: features of different lengths, or fewer than two features.
    """
    first, second = a.cov, b.cov
    check_lengths(a, b)
    overlap = torch.linalg.svdvals(_root(first).T @ _root(second)).sum()
    squared = (a.mean - b.mean).square().sum() + first.trace() + second.trace() - 2 * overlap
    return max(float(squared), 0.0)


def feature_moments(features: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 500) -> Moments:
    """The moments of ``features(batch)``, ``(B, d)``, over images ``(N, ...)``, without gradients."""
    moments = Moments()
    with torch.no_grad():
        for batch in torch.split(images, batch_size):
            moments.add(features(batch))
    return moments


def _root(cov: Tensor) -> Tensor:
    """An R with R R^T = cov; eigenvalues below the rounding are set to 0."""
    values, vectors = torch.linalg.eigh(cov)
    noise = len(cov) * torch.finfo(cov.dtype).eps * values[-1]
    root: Tensor = vectors * torch.where(values > noise, values, 0.0).sqrt()
    return root
