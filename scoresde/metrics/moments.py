"""Moments of features, gathered in batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor


@dataclass(eq=False)
class Moments:
    """Count, mean and covariance of features, in float64 on the CPU.

    Each batch is summed about its mean and merged: n = n_1 + n_2, a = m_2 - m_1, mean = m_1 + a n_2 / n,
    scatter = s_1 + s_2 + a a^T n_1 n_2 / n. A mean far from 0 costs no digits (Chan, Golub and LeVeque 1983,
    The American Statistician 37, 242-247). ``Moments()`` is empty; the first batch sets the length d of the
    features.

    Args:
        count: number of features.
        mean: ``(d,)``.
        scatter: sum of (x - mean)(x - mean)^T, ``(d, d)``.
    """

    count: int = 0
    mean: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    scatter: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))

    @property
    def cov(self) -> Tensor:
        """Unbiased covariance, scatter / (count - 1), ``(d, d)``; ValueError for fewer than two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 features, got {self.count}")
        return self.scatter / (self.count - 1)

    def add(self, features: Tensor) -> None:
        """Add one batch, ``(B, d)``, of any floating type and device.

        Raises:
            ValueError: another shape, length or type, or features that are not finite. The moments stay as
                they were.
        """
        if features.ndim != 2 or not features.numel() or not features.is_floating_point():
            raise ValueError(
                f"features must be (B, d) real numbers, got {tuple(features.shape)} {features.dtype}"
            )
        x = features.detach().cpu().double()
        if not torch.isfinite(x).all():
            raise ValueError(
                f"features must be finite, {(~torch.isfinite(x)).any(1).sum()} of {len(x)} are not"
            )
        mean = x.mean(0)
        x = x - mean
        self.merge(Moments(len(x), mean, x.T @ x))

    def merge(self, other: "Moments") -> None:
        """Add the features of other moments; ValueError if these have another length."""
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.scatter = other.count, other.mean.clone(), other.scatter.clone()
            return
        check_lengths(self, other)
        count, apart = self.count + other.count, other.mean - self.mean
        self.mean = self.mean + apart * (other.count / count)
        self.scatter = (
            self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count)
        )
        self.count = count

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both together."""
        both = Moments()
        both.merge(self)
        both.merge(other)
        return both

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Count, mean and scatter by name, as :func:`scoresde.files.write_tensors` takes them."""
        count = torch.tensor(self.count)
        return {f"{prefix}count": count, f"{prefix}mean": self.mean, f"{prefix}scatter": self.scatter}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> Self:
        """The moments of :meth:`tensors`, bit for bit; ValueError if a tensor is missing or does not fit."""
        names = [f"{prefix}{name}" for name in ("count", "mean", "scatter")]
        missing = [name for name in names if name not in tensors]
        if missing:
            raise ValueError(f"moments need {', '.join(names)}; {missing[0]} is missing")
        count, mean, scatter = (tensors[name] for name in names)
        if count.numel() != 1 or count.is_floating_point() or count < 0:
            raise ValueError(f"the count of moments must be one integer from 0, got {count}")
        _check_matrix(mean, scatter)
        return cls(int(count), mean.double(), scatter.double())


def gaussian_moments(mean: Tensor, cov: Tensor, count: int = 2) -> Moments:
    """The moments of a distribution whose mean and covariance are known, not estimated.

    Args:
        mean: ``(d,)``.
        cov: ``(d, d)``, symmetric and without negative eigenvalues.
        count: the number of features in a merge with other moments; a distance does not depend on it.

    Raises:
        ValueError: another shape, numbers that are not finite, a matrix that is not symmetric or has a
            negative eigenvalue, or a count below 2.
    """
    _check_matrix(mean, cov)
    if not len(mean):
        raise ValueError("mean and cov are empty")
    mean, cov = mean.detach().cpu().double(), cov.detach().cpu().double()
    # The errors of a covariance that was rounded to float32.
    slack = 1e-6 * cov.diagonal().abs().max().item()
    if (cov - cov.T).abs().max() > slack or torch.linalg.eigvalsh(cov)[0] < -slack * len(cov):
        raise ValueError("cov must be symmetric and have no negative eigenvalue")
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    return Moments(count, mean.clone(), (cov + cov.T) * ((count - 1) / 2))


def check_lengths(a: Moments, b: Moments) -> None:
    """ValueError unless the features of both have the same length."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features must have one length, got {len(a.mean)} and {len(b.mean)}")


def _check_matrix(mean: Tensor, matrix: Tensor) -> None:
    if mean.ndim != 1 or matrix.shape != (len(mean), len(mean)):
        raise ValueError(
            f"a mean (d,) and a matrix (d, d) are needed, got {tuple(mean.shape)} and {tuple(matrix.shape)}"
        )
    if not (torch.isfinite(mean).all() and torch.isfinite(matrix).all()):
        raise ValueError("mean and matrix must be finite")
