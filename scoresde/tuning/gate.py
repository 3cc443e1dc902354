"""Is one table better than another, on noises that neither has seen?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(statistic: Callable[..., Numbers], *samples: Numbers, seed: int = 0) -> Interval:
    """The percentile interval of a statistic of means over samples, each drawn anew together.

    Args:
        statistic: of the means of each of the ``samples``, ``(..., k)``; returns ``(...)``.
        samples: ``(M, k)`` each.
    """
    counts = np.random.default_rng(seed).multinomial(m := len(samples[0]), np.full(m, 1 / m), DRAWS) / m
    drawn = statistic(*(counts @ one for one in samples))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(statistic(*(one.mean(0) for one in samples))), float(low), float(high))


def root(squares: Numbers) -> Numbers:
    """Root mean square, from means of squares ``(..., 1)``."""
    made: Numbers = np.sqrt(squares)[..., 0]
    return made


def log_ratio(ours: Numbers, theirs: Numbers) -> Numbers:
    """log of the ratio of root mean squares, from means of squares ``(..., 1)``."""
    made: Numbers = 0.5 * np.log(ours / theirs)[..., 0]
    return made


def band_error(energies: Numbers, targets: Numbers) -> Numbers:
    """Root mean square, over bands, of the log of the ratio of energies, both ``(..., bands)``."""
    made: Numbers = np.sqrt(np.mean(np.log(energies / targets) ** 2, -1))
    return made


def difference_of_bands(ours: Numbers, theirs: Numbers, targets: Numbers) -> Numbers:
    """The band error of one less that of another."""
    return band_error(ours, targets) - band_error(theirs, targets)
