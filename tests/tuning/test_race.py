"""The race: planted winners are found, and its cost is what it says."""

import zlib

import numpy as np
import pytest
import torch
from test_pilot import flat

from scoresde.tuning.pairs import Pairs
from scoresde.tuning.pilot import Pilot
from scoresde.tuning.race import COST, SOLVERS, TAIL, Entry, race, score

PRICE = 60
NOISES = 32


def pilot_of(noises=NOISES):
    """A pilot whose densities are flat in u, in u^(1/2) and so on, with a number of noises."""
    parts = [flat(order, -order / 2, nodes=100) for order in (1, 2, 3)]
    x = torch.zeros(noises, 3)
    return Pilot(Pairs(x, x), parts[0].u, {order: part.sizes[order] for order, part in enumerate(parts, 1)})


class Planted:
    """Errors of candidates: log-normal by sample, the same for all, times a factor for each candidate."""

    def __init__(self, calls, factor, cheap=NOISES):
        self.calls, self.factor, self.cost, self.seen, self.known = calls, factor, 0, [], cheap

    def __call__(self, entry, first, last):
        self.cost += self.calls * (last - first)
        self.cost += PRICE * max(last - self.known, 0)
        self.known = max(self.known, last)
        self.seen.append((entry, first, last))
        samples = np.random.default_rng(7).normal(size=last)[first:]
        own = np.random.default_rng([first, zlib.crc32(entry.levels.encode())]).normal(size=last - first)
        return self.factor(entry) * np.exp(samples + 0.2 * own)


WINNERS = ["flow-time, e = 2, c = 2", "measured, k = 2, floor 0.2", "measured, k = 3, floor 0.1"]


@pytest.mark.parametrize("calls", [2, 5, 8, 14, 15, 20, 30, 31, 50])
@pytest.mark.parametrize("levels", WINNERS)
def test_it_finds_the_best_within_its_cost(calls, levels):
    solver = next(names for most, names in SOLVERS if calls <= most)[-1]
    errors = Planted(calls, lambda one: 0.5 if (one.levels, one.solver) == (levels, solver) else 1.0)
    best, found = race(pilot_of(), calls, errors, PRICE)
    assert (best.levels, best.solver) == (levels, solver)
    assert 0 < errors.cost <= COST
    assert errors.cost > 0.7 * COST  # it does not give away what it may spend
    assert len(found) > 10


def test_a_mean_of_levels_can_win():
    errors = Planted(10, lambda one: 0.5 if one.levels.startswith("mean") else 1.0)
    best, _ = race(pilot_of(), 10, errors, PRICE)
    assert best.levels.startswith("mean of measured")
    kinds = [entry.levels.split()[0] for entry, _, _ in errors.seen]
    assert set(kinds) == {"measured,", "flow-time,", "mean"}


def test_a_mean_is_halfway_between_its_levels():
    """The level at share s of the mean lies between the levels at s of both: shares at each u are means."""
    errors = Planted(10, lambda one: 0.5 if one.levels.startswith("mean") else 1.0)
    best, _ = race(pilot_of(), 10, errors, PRICE)
    name = best.levels.removeprefix("mean of ")
    measured, power = (
        next(one for one, _, _ in errors.seen if one.levels == part) for part in name.split(", and ")
    )
    u = np.array(best.spacing.u)
    expected = (np.array(measured.spacing.shares) + power.spacing.shares(u)) / 2
    assert np.array(best.spacing.shares) == pytest.approx(expected, abs=1e-12)


def test_rounds_use_samples_of_their_own():
    errors = Planted(8, lambda one: 1.0)
    race(pilot_of(), 8, errors, PRICE)
    spans = sorted({(first, last) for _, first, last in errors.seen})
    assert len(spans) == 3
    assert [first for first, _ in spans] == [0, spans[0][1], spans[1][1]]


def test_the_score_is_a_mean_of_the_median_and_the_root_mean_square_with_a_penalty():
    """For log-normal errors of deviation 1 the RMS is e times the median; 100,000 tell it to 2 %."""
    errors = 0.001 * np.exp(np.random.default_rng(0).normal(size=100_000))
    assert score(errors / 3) == pytest.approx(score(errors) - np.log(3), rel=1e-12)
    assert score(errors) == pytest.approx(np.log(0.001) + TAIL, abs=0.03)
    # 2 % of worse samples hardly move the median. Those beyond half the spread cost 10 times their share.
    for worse, penalty in ((0.4, 0.0), (0.6, 0.2)):
        other = errors.copy()
        other[:2000] = worse
        growth = np.log(np.square(other).mean() / np.square(errors).mean()) / 2
        assert score(other) - score(errors) == pytest.approx(TAIL * growth + penalty, abs=0.03)
    assert score(np.zeros(8)) < -30  # an error of 0 is very good, and not a fault


@pytest.mark.parametrize("cut", [0.05, 0.25])
def test_samples_elsewhere_hardly_count_in_the_middle(cut):
    """With a share of 5 or 25 % elsewhere in all candidates, the one with half the error elsewhere wins."""

    def factor(one: Entry) -> float:
        return 0.5 if one.levels == WINNERS[0] else 1.0

    class Elsewhere(Planted):
        def __call__(self, entry, first, last):
            made = super().__call__(entry, first, last)
            return np.where(np.random.default_rng(first).random(last - first) < cut, 1e3, made)

    best, _ = race(pilot_of(), 8, Elsewhere(8, factor), PRICE)
    assert best.levels == WINNERS[0]
