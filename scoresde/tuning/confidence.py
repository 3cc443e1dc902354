"""Confidence intervals of paired errors, and a bound on misses that no sample showed."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .table import Numbers

RESAMPLES = 2000  # of the bootstrap
BATCH_NUMBERS = 250_000  # indices that are drawn at a time
RULE_OF_THREE = 3.0  # -log(0.05), to one digit

Statistic = Callable[..., Numbers]  # of the means of samples, each (..., k); returns (...)


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, of 95 % if no other level is stated."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(statistic: Statistic, *samples: Numbers, level: float = 0.95, seed: int = 0) -> Interval:
    """The interval of a statistic of means: at each end, the wider of the two :func:`intervals`.

    For errors with long tails, each of the two is too narrow where the other is not;
    ``benchmarks/coverage.py`` measures the coverage of all three.
    """
    value = float(statistic(*(one.mean(0) for one in samples)))
    lows, highs = zip(*intervals(statistic, *samples, level=level, seed=seed).values(), strict=True)
    return Interval(value, min(lows), max(highs))


def intervals(
    statistic: Statistic, *samples: Numbers, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The percentile and the BCa interval of a statistic of the means of paired samples.

    BCa is bias-corrected and accelerated (Efron 1987, Journal of the American Statistical Association 82,
    171-185). Where it is not defined, for example for samples that are all equal, the percentile interval
    takes its place. (This is ``paired=True`` of SciPy, to the bit, on rows: it is faster for many bands.)

    Args:
        statistic: of the means of the samples, each ``(..., k)``; returns ``(...)``.
        samples: each ``(M, k)``, M at least 2.
        level: of confidence, two-sided.
        seed: of the resampling; the same seed gives the same interval.
    """
    from scipy.stats import bootstrap as resampled

    def of_resample(indices: NDArray[np.int64], axis: int = -1) -> Numbers:
        return statistic(*(one[indices].mean(-2) for one in samples))

    count = len(samples[0])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # samples that are all equal
        found = resampled(
            (np.arange(count),),
            of_resample,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, BATCH_NUMBERS // count),
            confidence_level=level,
            method="BCa",
            random_state=np.random.default_rng(seed),
        )
    low, high = np.quantile(found.bootstrap_distribution, [(1 - level) / 2, (1 + level) / 2]).tolist()
    corrected = tuple(map(float, found.confidence_interval))
    defined = not any(map(math.isnan, corrected))
    return {"percentile": (low, high), "BCa": (corrected[0], corrected[1]) if defined else (low, high)}


def with_unseen(mean: float, count: int, variance: float) -> float:
    """The root mean square error if misses that no sample showed were as frequent as they can be.

    sqrt(mean + 3 / n m^2). An event that none of n samples shows may happen in up to 3 / n of all, with 95 %
    confidence (the rule of three: (1 - 3 / n)^n is about 0.05; Hanley and Lippman-Hand 1983, Journal of the
    American Medical Association 249, 1743-1745). A miss is taken to end as far from its target as two
    unrelated ends are apart: m^2 = 2 Var.

    Args:
        mean: the square error of the n samples, averaged over samples and coordinates.
        count: n.
        variance: Var, of the ends over samples, averaged over coordinates.
    """
    return math.sqrt(mean + RULE_OF_THREE / count * 2 * variance)


def root_mean(squares: Numbers) -> Numbers:
    """The root mean square, from means of squares ``(..., 1)``."""
    made: Numbers = np.sqrt(squares)[..., 0]
    return made


def log_rmse_ratio(ours: Numbers, theirs: Numbers) -> Numbers:
    """The log of the ratio of root mean squares, from means of squares ``(..., 1)``."""
    made: Numbers = 0.5 * np.log(ours / theirs)[..., 0]
    return made


def band_error(energies: Numbers, targets: Numbers) -> Numbers:
    """The root mean square over bands of the log ratio of mean energies, both ``(..., bands)``."""
    made: Numbers = np.sqrt(np.mean(np.log(energies / targets) ** 2, -1))
    return made


def band_difference(ours: Numbers, theirs: Numbers, targets: Numbers) -> Numbers:
    """The band error of one table less that of another."""
    return band_error(ours, targets) - band_error(theirs, targets)
