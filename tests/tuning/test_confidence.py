"""The confidence intervals of a tuning: what they cover, and what they cannot exclude."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # before tests/problems.py

import coverage

from scoresde.tuning import Report
from scoresde.tuning.confidence import (
    band_difference,
    bootstrap,
    intervals,
    log_rmse_ratio,
    root_mean,
    with_unseen,
)

REPORTS = Path(__file__).parents[2] / "benchmarks" / "results" / "tuned"


def test_the_ends_are_those_of_both_intervals_and_bca_is_scipys():
    """Of one sample and a root of a mean: the reference is scipy's own, of the same draws."""
    from scipy.stats import bootstrap as reference

    squares = np.random.default_rng(0).lognormal(sigma=1.5, size=(200, 1))
    for level in (0.95, 0.9):
        both = intervals(root_mean, squares, level=level)
        expected = reference(
            (squares[:, 0],),
            lambda x, axis: np.sqrt(x.mean(axis)),
            n_resamples=2000,
            batch=1250,
            confidence_level=level,
            random_state=np.random.default_rng(0),
        )
        drawn = expected.bootstrap_distribution
        assert both["BCa"] == pytest.approx(tuple(expected.confidence_interval), rel=1e-12)
        assert both["percentile"] == pytest.approx(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
        found = bootstrap(root_mean, squares, level=level)
        assert found.value == pytest.approx(math.sqrt(squares.mean()))
        assert (found.low, found.high) == (both["percentile"][0], both["BCa"][1])  # the tail is on the right
        assert both["BCa"][0] > both["percentile"][0]


def test_the_same_seed_gives_the_same_interval_and_a_difference_is_told_from_none():
    generator = np.random.default_rng(1)
    a, b = generator.exponential(size=(2, 400, 1))
    better = bootstrap(log_rmse_ratio, 0.5 * a, a)
    assert better.low == pytest.approx(0.5 * math.log(0.5), abs=1e-12)  # paired: no noise is left
    assert better.high == pytest.approx(0.5 * math.log(0.5), abs=1e-12)
    none = bootstrap(log_rmse_ratio, b, a)
    assert none.low < 0 < none.high
    assert none == bootstrap(log_rmse_ratio, b, a)
    assert none != bootstrap(log_rmse_ratio, b, a, seed=1)


def test_bands_are_compared_in_the_mean_over_samples():
    """Energies (M, bands): the logs of 2 and 1/2 against those of 1 and 1/2."""
    ones = np.ones((50, 2))
    target, ours, theirs = ones * [1.0, 2.0], ones * [2.0, 1.0], ones * [1.0, 1.0]
    found = bootstrap(band_difference, ours, theirs, target)
    assert found.value == pytest.approx(math.log(2) * (1 - math.sqrt(1 / 2)))
    assert found.low == pytest.approx(found.value) == found.high


def test_samples_are_drawn_in_pairs_and_equal_ones_have_no_width():
    squares = np.random.default_rng(1).exponential(size=(100, 1))
    for ours in (squares, 0.25 * squares, np.ones((100, 1))):
        found = bootstrap(log_rmse_ratio, ours, 4 * ours)
        assert (found.low, found.value, found.high) == pytest.approx([-math.log(2)] * 3, abs=1e-12)


def test_the_intervals_cover_and_the_wider_covers_more():
    """A short version of benchmarks/coverage.py, on errors with long tails and few noises.

    Nominal are 95 and 2.5 %; of 300 trials, shares of these sizes deviate by 1.3 and 0.9 %.
    """
    shares = coverage.covered(coverage.made()["log-normal"], 128, 300)
    assert shares["gate"][0] >= max(shares["percentile"][0], shares["BCa"][0])
    assert shares["gate"][1] <= min(shares["percentile"][1], shares["BCa"][1])
    assert 0.9 < shares["gate"][0] < 0.99
    assert shares["gate"][1] == shares["gate"][2] < 0.07  # the truth is 0
    assert shares["gate"][1] < shares["BCa"][1]


def test_no_interval_sees_a_miss_that_is_in_no_sample_and_the_bound_does():
    """In 36 % of draws of 1,024 noises there is no miss of 1 in 1,000, by which a table is 8 % worse."""
    law, truth = coverage.made()["8 % worse by 1 in 1,000"]
    assert truth == pytest.approx(math.log(1.08))
    shares = coverage.covered((law, truth), 1024, 40)
    assert 0.15 < shares["gate"][2] < 0.6
    ours, theirs = law(np.random.default_rng(0), 1024)
    assert ours.max() < 100  # this one shows none
    found = bootstrap(log_rmse_ratio, ours[:, None], theirs[:, None])
    assert found.high < 0
    cost = (1.08**2 - 0.9 * 0.999) / 0.001  # mean square of a miss, 2 Var in what the bound takes it for
    assert with_unseen(float(ours.mean()), 1024, cost / 2) > 1.08  # the truth
    assert with_unseen(0.01, 300, 2.0) == pytest.approx(math.sqrt(0.01 + 3 / 300 * 2 * 2.0))


def test_the_report_says_what_was_shown_and_what_was_not():
    from dataclasses import replace

    report = replace(Report.load(REPORTS / "report-6.json"), rmse_with_unseen=0.0567)
    lines = str(report).splitlines()
    (returned,) = [line for line in lines if line.startswith("returned")]
    assert "tuned: better on 1024 held-out samples" in returned
    (excluded,) = [line for line in lines if line.startswith("not excluded")]
    assert "a miss in up to 0.29% of samples, 3 / 1024" in excluded
    assert "RMSE up to 0.0567, sqrt(RMSE^2 + 3 / 1024 m^2)" in excluded
    assert "did not beat it on 1024 held-out samples" in str(replace(report, tuned=False))


def test_the_program_prints_a_row_for_each_interval(capsys):
    assert coverage.main(["--trials", "2", "--noises", "32", "--population", "200"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + 7 * 3
    assert sum(" gate " in row for row in rows) == 7
    assert coverage.main(["--noises", "1"]) == 2
    assert capsys.readouterr().err == (
        "coverage.py: --trials and --population must be at least 1, --noises at least 2\n"
    )
