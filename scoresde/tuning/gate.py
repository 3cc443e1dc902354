"""Is one table better than another, on noises that neither has seen?"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

DRAWS = 2000  # of the bootstrap
AT_ONCE = 250_000  # numbers that are drawn at a time
RULE_OF_THREE = 3.0  # -log(0.05), to the digit that matters


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, of 95 % unless it is said otherwise."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    statistic: Callable[..., Numbers], *samples: Numbers, level: float = 0.95, seed: int = 0
) -> Interval:
    """The interval of a statistic of means over samples: at each end, the wider of :func:`intervals`.

    Of errors with long tails each of them is too narrow where the other is not; ``benchmarks/coverage.py``
    measures it.
    """
    value = float(statistic(*(one.mean(0) for one in samples)))
    lows, highs = zip(*intervals(statistic, *samples, level=level, seed=seed).values(), strict=True)
    return Interval(value, min(lows), max(highs))


def intervals(
    statistic: Callable[..., Numbers], *samples: Numbers, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The ends of the percentile and the BCa interval, of samples that are drawn anew together.

    BCa is bias-corrected and accelerated (Efron 1987, Journal of the American Statistical Association 82,
    171-185). Where it is not defined, as of samples that are all alike, it is the percentile interval.

    Args:
        statistic: of the means of each of the ``samples``, ``(..., k)``; returns ``(...)``.
        samples: ``(M, k)`` each, M at least 2.
        level: of confidence, of the interval with both ends.
    """
    from scipy.stats import bootstrap as resampled

    def of(places: NDArray[np.int64], axis: int = -1) -> Numbers:
        return statistic(*(one[places].mean(-2) for one in samples))

    count = len(samples[0])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of samples that are all alike
        found = resampled(
            (np.arange(count),),
            of,
            n_resamples=DRAWS,
            batch=max(1, AT_ONCE // count),
            vectorized=True,
            confidence_level=level,
            method="BCa",
            random_state=np.random.default_rng(seed),
        )
    low, high = np.quantile(found.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2]).tolist()
    corrected = tuple(map(float, found.confidence_interval))
    defined = not any(map(math.isnan, corrected))
    return {"percentile": (low, high), "BCa": (corrected[0], corrected[1]) if defined else (low, high)}


def with_unseen(mean: float, count: int, variance: float) -> float:
    """The root mean square error, if misses that no sample showed were as frequent as they can be.

    sqrt(mean + 3 / n m^2). What no one of n samples shows may happen to up to 3 / n of all, with 95 %
    confidence (the rule of three: (1 - 3 / n)^n is about 0.05; Hanley and Lippman-Hand 1983, Journal of the
    American Medical Association 249, 1743-1745). A sample that misses is taken to end as far from its own end
    as unrelated ends are from each other: m^2 = 2 Var.

    Args:
        mean: square error of the n samples that were seen, in the mean over samples and coordinates.
        count: n.
        variance: Var, of the ends, in the mean over coordinates.
    """
    return math.sqrt(mean + RULE_OF_THREE / count * 2 * variance)


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
