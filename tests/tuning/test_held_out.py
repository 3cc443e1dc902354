"""The decision on held-out samples, and the report of the plan that is returned."""

import json
import math
from dataclasses import replace

import pytest
from small_tuning import task, tuned

from scoresde.tuning import Report
from scoresde.tuning.bands import Bands
from scoresde.tuning.candidates import stock_candidates, stock_spacings, tunable_candidates
from scoresde.tuning.confidence import bootstrap, root_mean
from scoresde.tuning.held_out import compare_held_out, equivalent_calls, measured
from scoresde.tuning.levenberg_marquardt import LMState
from scoresde.tuning.saved import TuningState
from scoresde.tuning.successive_halving import successive_halving, table_errors
from scoresde.tuning.table import Table
from scoresde.tuning.teacher import TeacherCheck, teacher_pairs


def first_coordinate(x):
    return x[:, :1]


def held_out_pairs(of, calls=32):
    noises = of.initial_pairs()
    return of.parts(teacher_pairs(of.denoiser, noises.x, None, calls, 256))[2]


class Comparison:
    """All that a decision needs; ``decide`` makes it for a table."""

    def __init__(self, **given):
        self.task = task(**given)
        self.test = held_out_pairs(self.task)
        spacings = stock_spacings(self.task.settings.spacings)
        candidates = stock_candidates(self.task.sde, 3, self.task.solvers, spacings)
        ranked = successive_halving(candidates, self.task.denoiser, self.test, 256)
        self.stocks = [candidate for candidate, _ in ranked]
        (self.start, *_) = tunable_candidates(self.stocks[0], self.task.sde, 3, 0.5, 4)
        self.bands = Bands.of(self.test.target, 3)

    def measure(self, table):
        return measured(self.task, self.test, self.bands, table)

    def decide(self, table, measure=None):
        state = TuningState(TeacherCheck(32, 0.001, 0.01), [], [], [])
        reached = LMState((), 1.0, (), 1.0, history=((1.0, 1.0),))
        return compare_held_out(
            self.task, self.start, table, reached, self.stocks, self.test, state, measure or self.measure
        )


@pytest.fixture(scope="module")
def comparison():
    return Comparison()


@pytest.fixture(scope="module")
def better():
    """The table of a tuning that wins."""
    plan, report = tuned()
    assert report.tuned
    return Table.read(plan)


def test_a_table_that_is_better_wins_and_features_decide(comparison, better):
    plan, report = comparison.decide(better)
    assert report.tuned is plan.about["tuned"] is True
    assert plan == better.plan()
    ours, theirs = comparison.measure(better), comparison.measure(comparison.stocks[0].table)
    assert report.rmse.value == pytest.approx(math.sqrt(ours.squares.mean()))
    assert report.stock_rmse.value == pytest.approx(math.sqrt(theirs.squares.mean()))
    assert report.log_rmse_ratio.value == pytest.approx(math.log(report.rmse.value / report.stock_rmse.value))
    assert report.bands == pytest.approx(ours.energies.mean(0) / comparison.measure(None).energies.mean(0))
    of = Comparison(feature_map=first_coordinate)
    _, in_features = of.decide(better)
    ours, theirs = of.measure(better), of.measure(of.stocks[0].table)
    ratio = 0.5 * math.log(ours.feature_squares.mean() / theirs.feature_squares.mean())
    assert in_features.log_rmse_ratio.value == pytest.approx(ratio)
    assert in_features.rmse == report.rmse
    assert ratio != pytest.approx(report.log_rmse_ratio.value, rel=1e-3)


def test_a_feature_map_changes_the_fit(better):
    plan, _ = tuned(feature_map=first_coordinate)
    assert plan != better.plan()


def test_a_table_that_does_not_win_is_not_returned(comparison):
    """One that is the stock solver's own wins nothing; nor does one that is twice as far."""
    best = comparison.stocks[0]
    for table in (best.table, replace(best.table, decay=2 * best.table.decay)):
        plan, report = comparison.decide(table)
        assert report.tuned is plan.about["tuned"] is False
        assert report.stock == best.name
        assert plan == best.table.plan()
        assert "did not beat" in str(report)


def test_a_table_with_worse_bands_does_not_win_by_smaller_errors(comparison, better):
    def measure(table):
        found = comparison.measure(table)
        return replace(found, energies=3 * found.energies) if table is better else found

    plan, report = comparison.decide(better, measure)
    assert report.log_rmse_ratio.high < 0 < report.band_difference.low
    assert not report.tuned
    assert plan == comparison.stocks[0].table.plan()


@pytest.mark.parametrize("wins", [True, False])
def test_the_bounds_are_of_the_plan_that_is_returned(wins, comparison, better):
    """The bound on W2 is one-sided: of 90 % between two ends, 95 % are below the upper one."""
    best = comparison.stocks[0].table
    plan, report = comparison.decide(better if wins else replace(best, decay=1.5 * best.decay))
    assert report.tuned is wins
    chosen = comparison.measure(better if wins else best).squares
    high = bootstrap(root_mean, chosen, level=0.9).high
    assert report.w2_bound == pytest.approx((math.sqrt(3 * chosen.mean()), math.sqrt(3) * high))
    variance = (comparison.measure(None).energies.sum(1) / 3).mean()
    assert report.rmse_with_unseen == pytest.approx(
        math.sqrt(chosen.mean() + 3 / 128 * 2 * variance), rel=1e-5
    )
    assert report.parameters == 3 * 3 - 3 + 3 + 1 + 1 + 3  # weights, scales, first step, knots
    assert plan.about | report.network == plan.about


@pytest.mark.parametrize("which", ["ours", "the best", "all"])
def test_ends_that_are_not_finite_have_lost(which, comparison, better):
    """A tuned table's, to the best stock solver; that one's, to the next; all, and nothing can be said."""
    bad = {"ours": [better], "the best": [comparison.stocks[0].table]}.get(which)

    def measure(table):
        found = comparison.measure(table)
        if table is not None and (bad is None or any(table is one for one in bad)):
            found.squares[3] = math.inf
        return found

    if which == "all":
        with pytest.raises(FloatingPointError, match="no stock solver's ends are all finite on 128"):
            comparison.decide(better, measure)
        return
    plan, report = comparison.decide(better, measure)
    assert report.tuned is plan.about["tuned"] is (which == "the best")
    assert report.stock == comparison.stocks[0 if which == "ours" else 1].name
    assert report.log_rmse_ratio.value == 0 if which == "ours" else report.log_rmse_ratio.value < 0
    assert math.isfinite(report.rmse.high)
    assert math.isfinite(report.stock_rmse.high)


def test_equivalent_calls_are_the_least_at_which_a_stock_solver_is_as_accurate(comparison, better):
    of, stocks = comparison.task, comparison.stocks
    squares = comparison.measure(better).squares
    found, searched = equivalent_calls(of, stocks, comparison.test, squares, 32)
    assert searched == 9  # 3 times 3 calls
    errors = {
        nfe: min(
            float(table_errors(one.table, of.denoiser, comparison.test, 256).mean())
            for stock in stocks[:3]
            for one in stock_candidates(
                of.sde, nfe, {stock.solver: of.solvers[stock.solver]}, {stock.spacing: stock.levels}
            )
        )
        for nfe in range(3, 10)
    }
    as_accurate = [nfe for nfe, error in errors.items() if error <= squares.mean()]
    assert found == min(as_accurate, default=None)
    assert equivalent_calls(of, stocks, comparison.test, 0 * squares, 16) == (None, 8)  # half the teacher's


def test_a_report_is_loaded_as_it_was_saved_with_the_keys_of_older_files(comparison, better, tmp_path):
    _, report = comparison.decide(better)
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["gain"]["value"] == report.log_rmse_ratio.value
    assert content["band_gain"]["low"] == report.band_difference.low
    assert tuple(content["coupling"]) == report.w2_bound
    assert content["equivalent"] == report.equivalent_calls
    assert content["searched"] == report.equivalent_searched_up_to
    assert content["unseen"] == report.rmse_with_unseen
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="no report"):
        Report.load(tmp_path / "report.json")
