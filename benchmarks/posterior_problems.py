"""Linear inverse problems whose posterior is known: mixtures of normal distributions, seen by a matrix.

Each is made from a fixed seed. Of the observations drawn from the model, those are kept that leave two or
more components open: the hard ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from scoresde.denoisers.full_mixture import FullMixture

OPEN = 0.85  # an observation is ambiguous if no component has a larger posterior weight
MOST = 20_000  # observations drawn in search of ambiguous ones


@dataclass(frozen=True)
class Problem:
    """y = A x + tau n, for x from a mixture.

    Args:
        name: of the problem.
        prior: the law of x, in D dimensions.
        matrix: A, ``(m, D)``.
        taus: the noises of the study.
    """

    name: str
    prior: FullMixture
    matrix: Tensor
    taus: tuple[float, ...] = (0.05, 0.5)

    def observations(self, tau: float, n: int, seed: int) -> Tensor:
        """n observations ``(n, m)``, all ambiguous if the prior has several components.

        Raises:
            ValueError: too few ambiguous ones among the first ``MOST``.
        """
        y = self.observed(self.prior.sample(MOST, seed), tau, seed)
        kept = y if len(self.prior.log_shares) == 1 else y[self.ambiguous(y, tau)]
        if len(kept) < n:
            raise ValueError(f"{self.name} has {len(kept)} ambiguous observations at tau = {tau}, not {n}")
        return kept[:n]

    def observed(self, x: Tensor, tau: float, seed: int) -> Tensor:
        """y ``(n, m)`` of x ``(n, D)``, with the noise of a seed."""
        draw = torch.Generator().manual_seed(10_000 + seed)
        clean = x @ self.matrix.mT
        return clean + tau * torch.randn(clean.shape, generator=draw, dtype=clean.dtype)

    def ambiguous(self, y: Tensor, tau: float) -> Tensor:
        """Whether no component has a posterior weight of ``OPEN`` or more, ``(n,)``."""
        return self.prior.condition(self.matrix, y, tau).shares.amax(1) < OPEN


def gauss16() -> Problem:
    """One normal distribution in 16-D, variances from 2 to 0.01 along random axes; 8 numbers are seen."""
    draw = _seeded(0)
    variances = torch.logspace(math.log10(2), -2, 16, dtype=torch.float64)
    axes = torch.linalg.qr(_normal(draw, 16, 16))[0]
    prior = FullMixture.of(_normal(draw, 1, 16), ((axes * variances) @ axes.mT)[None], _equal(1))
    return Problem("gauss16", prior, _first(8, 16))


def mix2() -> Problem:
    """Five components in 2-D; one oblique projection is seen."""
    draw = _seeded(2)
    angles = torch.arange(5, dtype=torch.float64) * (2 * math.pi / 5)
    means = 1.2 * torch.stack([angles.cos(), angles.sin()], 1) + 0.2 * _normal(draw, 5, 2)
    covariances = _factors(draw, 5, 2, 1, deviation=0.3, rest=0.1)
    matrix = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    return Problem("mix2", FullMixture.of(means, covariances, _equal(5)), matrix)


def mix16() -> Problem:
    """Eight components in 16-D, correlated; the left half is seen: the model of half a digit.

    Four left halves of the means are each shared by a pair with different right halves. The covariances are
    those of four factors a component, which tell a pair apart where there is little noise: 8 % of the
    observations are ambiguous at 0.05, 83 % at 0.5.
    """
    draw = _seeded(0)
    left, right = 0.7 * _normal(draw, 4, 8), 0.7 * _normal(draw, 8, 8)
    means = torch.cat([left.repeat_interleave(2, 0), right], 1)
    covariances = _factors(draw, 8, 16, 4, deviation=0.4, rest=0.1)
    return Problem("mix16", FullMixture.of(means, covariances, _equal(8)), _first(8, 16))


SIDE = 8  # pixels of a picture of pool64


def pool64() -> Problem:
    """Six components of 8 x 8 pixels; the means of 2 x 2 pixels are seen.

    The components are smooth random fields, in pairs of one covariance, whose means differ by a fine pattern
    that pooling hides: both of a pair fit each observation equally well.
    """
    draw = _seeded(0)
    covariances = torch.stack([_smooth(0.5, length) for length in (1.5, 2.0, 2.5)]).repeat_interleave(2, 0)
    pool = _pooling()
    smooth = _normal(draw, 3, 64) @ torch.linalg.cholesky(_smooth(0.5, 2.0)).mT
    fine = _normal(draw, 3, 64)
    fine = 0.5 * (fine - 4 * fine @ pool.mT @ pool)  # a mean of 0 in each square
    means = torch.stack([smooth + fine, smooth - fine], 1).flatten(0, 1)
    return Problem("pool64", FullMixture.of(means, covariances, _equal(6)), pool, (0.05,))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    made.__name__: cache(made) for made in (gauss16, mix2, mix16, pool64)
}


def _pooling() -> Tensor:
    """The means of 2 x 2 pixels, ``(16, 64)``."""
    place = torch.arange(SIDE) // 2
    square = (place[:, None] * (SIDE // 2) + place).flatten()
    return torch.nn.functional.one_hot(square).mT.double() / 4


def _smooth(deviation: float, length: float) -> Tensor:
    """The covariance of a random field on the pixels, smooth over ``length`` pixels, with a little noise."""
    side = torch.arange(SIDE, dtype=torch.float64)
    places = torch.cartesian_prod(side, side)
    square = (places[:, None] - places).square().sum(2)
    return deviation**2 * torch.exp(-square / (2 * length**2)) + 0.1**2 * torch.eye(len(places)).double()


def _factors(draw: torch.Generator, k: int, d: int, factors: int, deviation: float, rest: float) -> Tensor:
    """Covariances F F^T + rest^2 I, ``(k, d, d)``, of a few random factors each."""
    f = deviation / math.sqrt(factors) * _normal(draw, k, d, factors)
    return f @ f.mT + rest**2 * torch.eye(d, dtype=torch.float64)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def _equal(k: int) -> Tensor:
    return torch.full((k,), 1 / k, dtype=torch.float64)


def _first(m: int, d: int) -> Tensor:
    """The matrix that sees the first m of d numbers."""
    return torch.eye(d, dtype=torch.float64)[:m]
