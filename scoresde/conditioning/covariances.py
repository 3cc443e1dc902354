"""The covariance of the data given x_t, of which a posterior makes its correction.

Each gives, for an observation, a :data:`Gain`: from a residual r = y - A D it computes L A^T S^-1 r, with
S = A R A^T + tau^2 I, and r^T S^-1 r. In all but :class:`ScoreForm` L = R, an approximation of
V = Cov[x_0 | x_t]. s^2 stands for sigma^2 / alpha^2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from ..devices import exact
from ..integer import integer
from ..processes.level import Level, column
from .conjugate_gradients import conjugate_gradients
from .linear import matrix_of
from .observed import Observed
from .rows import dot, times

Vjp = Callable[[Tensor], Tensor]  # v -> J^T v, J the derivative of the estimate by x_t
Gain = Callable[[Tensor, Level[Any], Vjp], tuple[Tensor, Tensor]]  # of r, the level and J^T


class Covariance(Protocol):
    """A choice of L and R."""

    @property
    def vjps(self) -> int:
        """The number of products J^T v of an estimate."""
        ...

    def gain(self, observed: Observed) -> Gain:
        """L A^T S^-1 r like x, and r^T S^-1 r ``(B,)``, for residuals r of an observation."""
        ...


def of_prior(variance: float) -> Callable[[Level[Any]], Any]:
    """r^2 = c s^2 / (c + s^2): the variance given x_t of normal data of variance c in each number."""
    if not 0 < variance < float("inf"):
        raise ValueError(f"variance must be positive and finite, got {variance}")
    return partial(_given_noise, float(variance))


def _given_noise(variance: float, level: Level[Any]) -> Any:
    # Finite at alpha = 0, too.
    return variance * level.sigma**2 / (variance * level.alpha**2 + level.sigma**2)


UNIT = of_prior(1.0)


@dataclass(frozen=True)
class Isotropic:
    """L = R = r^2 I. It needs no product J^T v.

    It is exact for data N(m, c I) with ``of_prior(c)``.

    Args:
        r2: r^2 as a function of the level; default, that of data of variance 1 in each number.
    """

    r2: Callable[[Level[Any]], Any] = UNIT
    vjps: ClassVar[int] = 0

    def gain(self, observed: Observed) -> Gain:
        """r^2 A^T (r^2 A A^T + tau^2 I)^-1 r."""
        operator, tau2 = observed.operator, observed.tau**2

        def correct(residual: Tensor, level: Level[Any], vjp: Vjp) -> tuple[Tensor, Tensor]:
            r2 = self.r2(level)
            solved = operator.solve(residual, r2, tau2)
            change = operator.adjoint(solved)
            return column(r2, change) * change, dot(residual, solved)

        return correct


@dataclass(frozen=True, eq=False)
class Gaussian:
    """L = R = (C^-1 + I / s^2)^-1, for a covariance C of the data. It needs no product J^T v.

    It is exact for normal data of covariance C, with any operator and noise. The work that grows with d^3 is
    done once, in float64, when a posterior is made. With K = C A^T (A C A^T + tau^2 I)^-1 and
    C_y = C - K A C = W diag(c) W^T it uses

        L A^T S^-1 = (I + C_y / s^2)^-1 K,
        S^-1 = (A C A^T + tau^2 I)^-1 + K^T (C_y + s^2 I)^-1 K,

    which follow from Woodbury's identity, so no level needs a solve of its own. C may be singular: where
    A C A^T + tau^2 I is, y says nothing that was not known.

    Args:
        covariance: C, ``(d, d)``, symmetric, without negative eigenvalues; best on the device of the samples.
        shape: the shape of a sample, of d numbers; default, ``(d,)``.

    Raises:
        ValueError: another covariance, or a shape of another number; later, an operator that does not fit.
    """

    covariance: Tensor
    shape: tuple[int, ...] | None = None
    vjps: ClassVar[int] = 0

    def __post_init__(self) -> None:
        given, d = self.covariance, len(self.covariance)
        if given.shape != (d, d) or not torch.isfinite(given).all() or not torch.allclose(given, given.mT):
            raise ValueError(f"covariance must be (d, d), finite and symmetric, got {tuple(given.shape)}")
        values = torch.linalg.eigvalsh(exact(given))
        if values[0] < -1e-6 * values[-1]:  # float32 covariances have eigenvalues of -1e-7 by rounding
            raise ValueError(f"covariance must not have negative eigenvalues, got {values[0]:.6g}")
        shape = (d,) if self.shape is None else tuple(self.shape)
        if torch.Size(shape).numel() != d:
            raise ValueError(f"shape must hold {d} numbers, as the covariance, got {shape}")
        object.__setattr__(self, "shape", shape)

    @classmethod
    def of_samples(cls, data: Tensor) -> "Gaussian":
        """The covariance of data ``(n, ...)``, n at least 2."""
        if len(data) < 2:
            raise ValueError(f"data must hold at least 2 samples, got {len(data)}")
        flat = exact(data).flatten(1)
        away = flat - flat.mean(0)
        return cls(away.mT @ away / len(data), tuple(data.shape[1:]))

    def gain(self, observed: Observed) -> Gain:
        """(I + C_y / s^2)^-1 K r."""
        covariance = exact(self.covariance)
        assert self.shape is not None
        seen = matrix_of(observed.operator, self.shape, covariance)
        if observed.shape not in (None, torch.Size(self.shape)):
            raise ValueError(
                f"the covariance must be of samples like the observation's, {tuple(observed.shape or ())}, "
                f"got {self.shape}"
            )
        d, m = len(covariance), len(seen)
        crossed = covariance @ seen.mT
        values, vectors = torch.linalg.eigh(seen @ crossed + observed.tau**2 * torch.eye(m).to(covariance))
        known = values > 1e-12 * values.max() if m else values > 0
        whiten = (vectors * torch.where(known, values, torch.inf).rsqrt()).mT.contiguous()
        gain = crossed @ whiten.mT @ whiten
        rest = torch.eye(d).to(covariance) - gain @ seen
        # This form of C_y has no negative eigenvalue beyond roundings of its own size.
        after = rest @ covariance @ rest.mT + observed.tau**2 * gain @ gain.mT
        left, axes = torch.linalg.eigh(after)
        axes = axes.contiguous()
        return _Solved(left.clamp(min=0), axes, (axes.mT @ gain).contiguous(), whiten, self.shape)


@dataclass(frozen=True, eq=False)
class _Solved:
    """The gain of a :class:`Gaussian` for one operator and tau: c, W, W^T K and (A C A^T + tau^2 I)^-1/2."""

    variances: Tensor
    axes: Tensor
    gain: Tensor
    whiten: Tensor
    shape: tuple[int, ...]

    def __call__(self, residual: Tensor, level: Level[Any], vjp: Vjp) -> tuple[Tensor, Tensor]:
        flat = residual.flatten(1)
        along = times(flat, self.gain.to(flat))
        alpha2, sigma2 = (column(number**2, flat) for number in (level.alpha, level.sigma))
        width = alpha2 * self.variances.to(flat) + sigma2
        change = times(along * (sigma2 / width), self.axes.to(flat)).reshape(-1, *self.shape)
        white = times(flat, self.whiten.to(flat))
        return change, dot(white, white) + dot(along, along * (alpha2 / width))


@dataclass(frozen=True)
class Jacobian:
    """L = R = V = (sigma^2 / alpha) J, the covariance that the network implies; S^-1 by conjugate gradients.

    It is exact for any normal data once the iterations solve the system: as many as y has numbers, or
    different eigenvalues of S.

    V is the second-order formula of Tweedie; Rozet et al. 2024 (arXiv 2405.13712, section 4). Differences:
    the correction is summed over the directions of the iterations, which saves one product, so that k
    iterations cost k, not k + 1.

    Args:
        iterations: at least 1.

    Raises:
        TypeError: not an integer.
        ValueError: below 1.
    """

    iterations: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "iterations", integer("iterations", self.iterations, 1))

    @property
    def vjps(self) -> int:
        """One for each iteration."""
        return self.iterations

    def gain(self, observed: Observed) -> Gain:
        """V A^T (A V A^T + tau^2 I)^-1 r."""
        operator, tau2 = observed.operator, observed.tau**2

        def correct(residual: Tensor, level: Level[Any], vjp: Vjp) -> tuple[Tensor, Tensor]:
            def apply(p: Tensor) -> tuple[Tensor, Tensor]:
                spread = _spread(operator.adjoint(p), level, vjp)
                return operator.forward(spread) + tau2 * p, spread

            return conjugate_gradients(apply, residual, self.iterations)

        return correct


@dataclass(frozen=True)
class ScoreForm:
    """L = V, R = r^2 I: sigma^2 / alpha times the gradient by x_t of log N(y; A D, r^2 A A^T + tau^2 I).

    Here L and R differ: where V is larger than r^2, the correction is too strong, and a run may be unstable.

    Args:
        r2: r^2 as a function of the level; default, that of data of variance 1 in each number.
    """

    r2: Callable[[Level[Any]], Any] = UNIT
    vjps: ClassVar[int] = 1

    def gain(self, observed: Observed) -> Gain:
        """V A^T (r^2 A A^T + tau^2 I)^-1 r."""
        operator, tau2 = observed.operator, observed.tau**2

        def correct(residual: Tensor, level: Level[Any], vjp: Vjp) -> tuple[Tensor, Tensor]:
            solved = operator.solve(residual, self.r2(level), tau2)
            return _spread(operator.adjoint(solved), level, vjp), dot(residual, solved)

        return correct


def _spread(v: Tensor, level: Level[Any], vjp: Vjp) -> Tensor:
    """V v = (sigma^2 / alpha) J^T v, for v like x."""
    spread: Tensor = column(level.sigma**2 / level.alpha, v) * vjp(v)
    return spread
