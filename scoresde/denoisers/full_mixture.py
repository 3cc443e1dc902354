"""Mixtures of normal distributions with full covariances, and their posteriors, in closed form."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..devices import exact
from ..processes.level import Level, column


@dataclass(frozen=True, eq=False)
class FullMixture:
    """A mixture of normal distributions, sum_k w_k N(m_k, U_k diag(l_k) U_k^T); or B of them, one a sample.

    At a noise level the variances are alpha^2 l_k + sigma^2, so its score and its denoiser are exact.
    :meth:`of` makes one from covariances.

    Args:
        means: m, ``(K, D)``, or ``(B, K, D)``.
        axes: U, ``(K, D, D)``, orthonormal columns.
        variances: l, ``(K, D)``, not negative.
        log_shares: log w, ``(K,)``, or ``(B, K)``.

    Raises:
        ValueError: other shapes.
    """

    means: Tensor
    axes: Tensor
    variances: Tensor
    log_shares: Tensor

    def __post_init__(self) -> None:
        *_, k, d = (0, 0, *self.means.shape)
        fits = self.axes.shape == (k, d, d) and self.variances.shape == (k, d)
        if not (fits and self.means.ndim in (2, 3) and self.log_shares.shape == self.means.shape[:-1]):
            raise ValueError(
                f"means must be ({k}, {d}) or (B, {k}, {d}), axes ({k}, {d}, {d}), variances ({k}, {d}) and "
                f"log_shares like means without D, got {tuple(self.means.shape)}, {tuple(self.axes.shape)}, "
                f"{tuple(self.variances.shape)}, {tuple(self.log_shares.shape)}"
            )

    @classmethod
    def of(cls, means: Tensor, covariances: Tensor, shares: Tensor) -> "FullMixture":
        """The mixture of means ``(K, D)``, covariances ``(K, D, D)`` and shares ``(K,)`` with sum 1.

        Raises:
            ValueError: other shapes; a covariance that is not symmetric or has a negative eigenvalue; a
                negative share; another sum of the shares.
        """
        if not (shares.min() >= 0 and abs(shares.sum().item() - 1) < 1e-6):
            raise ValueError("shares must not be negative, and must sum to 1")
        if not (torch.isfinite(covariances).all() and torch.allclose(covariances, covariances.mT)):
            raise ValueError("covariances must be finite and symmetric")
        variances, axes = torch.linalg.eigh(exact(covariances))
        if not (variances >= -1e-6 * variances.max()).all():  # float32 covariances have such roundings
            raise ValueError(f"covariances must not have negative eigenvalues, got {variances.min():.6g}")
        return cls(means, axes.to(means), variances.clamp(min=0).to(means), shares.log())

    @property
    def shares(self) -> Tensor:
        """w, ``(K,)`` or ``(B, K)``: the weights of the modes."""
        return self.log_shares.exp()

    def denoise(self, x: Tensor, level: Level[Any]) -> Tensor:
        """E[x_0 | x_t = x] for x ``(B, D)``, in its type; level: floats, or tensors ``(B,)``."""
        along, widths, log_parts = self._parts(x, level)
        alpha = column(level.alpha, along)
        gain = alpha * self.variances.to(x) / widths
        # m_k + U_k gain_k U_k^T (x - alpha m_k), weighted by the posterior probability of each component
        centres = self.means.to(x) + torch.einsum("bke,kde->bkd", gain * along, self.axes.to(x))
        mean: Tensor = (log_parts.softmax(1)[..., None] * centres).sum(1)
        return mean

    def responsibilities(self, x: Tensor, level: Level[Any]) -> Tensor:
        """p(k | x_t = x), ``(B, K)``, for x ``(B, D)``; its mean over draws of p_t is w."""
        return self._parts(x, level)[2].softmax(1)

    def log_density(self, x: Tensor, level: Level[Any]) -> Tensor:
        """log p_t(x) in nats, ``(B,)``, for x ``(B, D)``."""
        return self._parts(x, level)[2].logsumexp(1)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n draws of the data, ``(n, D)``, or of each mixture, ``(B, n, D)``, in the type of the means."""
        draw = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.shares.double(), n, replacement=True, generator=draw)
        eps = torch.randn(*chosen.shape, self.means.shape[-1], generator=draw, dtype=self.means.dtype)
        data = self.means.gather(-2, chosen[..., None].expand_as(eps))
        for k, (axes, variances) in enumerate(zip(self.axes, self.variances, strict=True)):
            data = data + torch.where(chosen[..., None] == k, (eps * variances.sqrt()) @ axes.mT, 0)
        return data

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(D,)`` and covariance ``(D, D)`` of the data, or of each mixture, in float64."""
        means, shares = exact(self.means), exact(self.shares)
        mean = (shares[..., None] * means).sum(-2)
        away = means - mean[..., None, :]
        inside = torch.einsum("...k,kij->...ij", shares, _covariances(self))
        return mean, away.mT @ (shares[..., None] * away) + inside

    def given(self, operator: Any, tau: float) -> "Conditional":
        """The posteriors of this mixture for y = A x + tau n, with all that does not depend on y computed.

        Args:
            operator: A, ``(m, D)``; or an object whose ``forward`` maps ``(B, D)`` to ``(B, m)``.
            tau: the deviation of the noise, at least 0.

        Raises:
            ValueError: another tau or operator; several mixtures; tau = 0 where A C_k A^T is singular.
        """
        return Conditional.of(self, operator, tau)

    def condition(self, operator: Any, y: Tensor, tau: float) -> "FullMixture":
        """The posterior given y ``(m,)``, or the posteriors given each y of ``(B, m)``; see :meth:`given`."""
        return self.given(operator, tau)(y)

    def _parts(self, x: Tensor, level: Level[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """U_k^T (x - alpha m_k) and alpha^2 l_k + sigma^2; log (w_k N(x; alpha m_k, ...)), ``(B, K)``."""
        away = x[:, None] - column(level.alpha, x[:, None]) * self.means.to(x)
        along = torch.einsum("bkd,kde->bke", away, self.axes.to(x))
        alpha2, sigma2 = (column(number**2, along) for number in (level.alpha, level.sigma))
        widths = alpha2 * self.variances.to(x) + sigma2
        exponents = along.square() / widths + torch.log(2 * math.pi * widths)
        return along, widths, self.log_shares.to(x) - 0.5 * exponents.sum(-1)


@dataclass(frozen=True, eq=False)
class Conditional:
    """The posteriors of a mixture for all y = A x + tau n. Called with y, it gives a :class:`FullMixture`.

    With S_k = A C_k A^T + tau^2 I and K_k = C_k A^T S_k^-1 the posterior has the shares
    w_k N(y; A m_k, S_k), up to a factor, the means m_k + K_k (y - A m_k) and the covariances C_k - K_k A C_k.

    Args:
        prior: the mixture.
        matrix: A, ``(m, D)``.
        gains: K, ``(K, D, m)``.
        roots: the lower Cholesky factors of S, ``(K, m, m)``.
        axes: the eigenvectors of the posterior's covariances, ``(K, D, D)``.
        variances: their eigenvalues, ``(K, D)``.
    """

    prior: FullMixture
    matrix: Tensor
    gains: Tensor
    roots: Tensor
    axes: Tensor
    variances: Tensor

    @classmethod
    def of(cls, prior: FullMixture, operator: Any, tau: float) -> "Conditional":
        """See :meth:`FullMixture.given`."""
        if not 0 <= tau < math.inf:
            raise ValueError(f"tau must be finite and not negative, got {tau}")
        if prior.means.ndim != 2:
            raise ValueError(f"a mixture for each sample is conditioned one by one, got {len(prior.means)}")
        covariances = _covariances(prior)
        matrix = _matrix(operator, covariances[0])
        crossed = covariances @ matrix.mT
        noise = tau**2 * torch.eye(len(matrix)).to(covariances)
        roots, failed = torch.linalg.cholesky_ex(matrix @ crossed + noise)
        if failed.any():
            raise ValueError(f"tau must be positive where A C A^T of a component is singular, got {tau}")
        gains = torch.cholesky_solve(crossed.mT, roots).mT
        rest = torch.eye(len(covariances[0])).to(covariances) - gains @ matrix
        # In this form roundings make no eigenvalue negative beyond their own size.
        variances, axes = torch.linalg.eigh(rest @ covariances @ rest.mT + gains @ noise @ gains.mT)
        return cls(prior, matrix, gains, roots, axes, variances.clamp(min=0))

    def __call__(self, y: Tensor) -> FullMixture:
        """The posterior given y ``(m,)``, or the posteriors given each y of ``(B, m)``, in the type of y."""
        away, log_parts = self._parts(y)
        means = self.prior.means.to(y) + torch.einsum("kdm,...km->...kd", self.gains.to(y), away)
        axes, variances = self.axes.to(y), self.variances.to(y)
        return FullMixture(means, axes, variances, log_parts.log_softmax(-1))

    def log_evidence(self, y: Tensor) -> Tensor:
        """log p(y) in nats, ``()`` or ``(B,)``."""
        return self._parts(y)[1].logsumexp(-1)

    def _parts(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y - A m_k, and log (w_k N(y; A m_k, S_k)), ``(..., K)``."""
        if y.shape[-1] != len(self.matrix) or y.ndim not in (1, 2):
            raise ValueError(
                f"y must be ({len(self.matrix)},) or one such row a sample, got {tuple(y.shape)}"
            )
        seen = exact(self.prior.means) @ self.matrix.mT
        away = y[..., None, :] - seen.to(y)
        white = torch.linalg.solve_triangular(self.roots.to(y), away[..., None], upper=False)[..., 0]
        spread = torch.log(2 * math.pi * self.roots.diagonal(dim1=-2, dim2=-1).square()).sum(-1)
        return away, self.prior.log_shares.to(y) - 0.5 * (white.square().sum(-1) + spread.to(y))


def _covariances(mixture: FullMixture) -> Tensor:
    """C, ``(K, D, D)``, in float64."""
    axes = exact(mixture.axes)
    return (axes * exact(mixture.variances)[:, None]) @ axes.mT


def _matrix(operator: Any, like: Tensor) -> Tensor:
    """A ``(m, D)`` in the type of ``like`` ``(D, D)``, from a matrix or an operator on rows."""
    unit = torch.eye(len(like)).to(like)
    matrix: Tensor = operator.to(like) if isinstance(operator, Tensor) else operator.forward(unit).mT
    if matrix.ndim != 2 or matrix.shape[1] != len(like) or not torch.isfinite(matrix).all():
        raise ValueError(f"operator must be (m, {len(like)}) and finite, got shape {tuple(matrix.shape)}")
    return matrix
