"""Stock solvers as candidates, and successive halving among them."""

import math
from dataclasses import replace

import pytest
import torch
from small_tuning import CLIPPED, EXACT, MIXTURE, exact_pairs

from scoresde import EDM, SOLVERS, Counted, ExactDenoiser, RectifiedFlow, integrate, prepare
from scoresde.plans.fingerprint import check_levels
from scoresde.spacings import AlignYourSteps
from scoresde.tuning.candidates import named, stock_candidates, stock_spacings, tunable_candidates
from scoresde.tuning.successive_halving import halving_per_group, successive_halving, table_errors

NAMES = ("ddim", "dpmpp-2m", "deis")


def stock(names=NAMES, spacings=("karras",)):
    return stock_candidates(CLIPPED, 4, {name: SOLVERS[name] for name in names}, stock_spacings(spacings))


def test_of_equal_tables_the_first_is_the_candidate():
    solvers = {"ddim": SOLVERS["ddim"], "dpmpp-2m": SOLVERS["dpmpp-2m"], "again": SOLVERS["ddim"]}
    found = stock_candidates(CLIPPED, 4, solvers, stock_spacings(["karras"]))
    assert [one.solver for one in found] == ["ddim", "dpmpp-2m"]


def test_halving_runs_no_round_that_drops_no_candidate():
    counted, pairs = Counted(EXACT), exact_pairs(300)
    for keep, samples in ((3, 3 * 256), (1, 3 * 16 + 256)):
        before = counted.evaluations
        (best, error), *_ = successive_halving(stock(), counted, pairs, 300, keep)
        assert counted.evaluations - before == 4 * samples
        first = (best.table.run(EXACT, pairs.x[:256]) - pairs.target[:256]).square().mean().sqrt()
        assert error == pytest.approx(float(first), rel=1e-12)


def test_halving_finds_the_best_and_the_best_of_each_group():
    """On 16 samples for all: as when each is measured on all samples."""
    pairs, candidates = exact_pairs(16), stock(spacings=("karras", "uniform-t"))
    errors = {one.name: float(table_errors(one.table, EXACT, pairs, 5).mean().sqrt()) for one in candidates}
    ranked = sorted(candidates, key=lambda one: errors[one.name])
    found = successive_halving(candidates, EXACT, pairs, 5, keep=2)
    assert found == [(one, errors[one.name]) for one in ranked[:2]]
    grouped = halving_per_group(candidates, lambda one: one.spacing, EXACT, pairs, 5, keep=1)
    best = [next(one for one in ranked if one.spacing == spacing) for spacing in ("karras", "uniform-t")]
    assert {one.name for one, _ in grouped} == {one.name for one in best}
    assert [error for _, error in grouped] == sorted(error for _, error in grouped)


def test_an_end_that_is_not_finite_is_an_infinite_error():
    (candidate,) = stock(("ddim",))
    pairs = exact_pairs(4)
    pairs.x[2] = math.inf
    errors = table_errors(candidate.table, EXACT, pairs, 3)
    assert errors.isinf().tolist() == [False, False, True, False]


def test_first_steps_end_at_the_ratios_asked_for():
    """sigma / alpha over the data's deviation; without one, the candidate as it is."""
    (candidate,) = stock(("dpmpp-2m",))
    plain, *others = tunable_candidates(candidate, CLIPPED, 4, 0.25, 3, (10.0, 5.0))
    assert not plain.family.has_first_step
    assert plain.table.rounded_key == candidate.table.rounded_key
    assert [math.exp(-one.table.levels[0].lam) for one in others] == pytest.approx([5.0, 2.5])
    assert all(one.family.has_first_step for one in others)
    assert named([others[1].name, plain.name], [plain, *others]) == [others[1], plain]
    # A ratio at which the data has no part yet is left out.
    assert len(tunable_candidates(candidate, CLIPPED, 4, 0.25, 3, (1000.0,))) == 1


def test_a_process_that_begins_without_data_has_knots_only_after_a_first_step():
    """alpha is 0 at the start of a rectified flow: no half log-SNR is there."""
    sde = RectifiedFlow()
    (candidate,) = stock_candidates(sde, 4, {"dpmpp-2m": SOLVERS["dpmpp-2m"]}, stock_spacings(["uniform-t"]))
    tunable = tunable_candidates(candidate, sde, 4, 0.25, 3, (10.0, 5.0))
    assert [math.exp(-one.table.levels[0].lam) for one in tunable] == pytest.approx([5.0, 2.5])


def test_a_stock_solver_that_begins_late_begins_with_the_same_noise():
    """Align-your-steps ends before the SDE's noisiest level."""
    sde = EDM()
    spacings = stock_spacings(["align-your-steps"])
    (candidate,) = stock_candidates(sde, 5, {"dpmpp-2m": SOLVERS["dpmpp-2m"]}, spacings)
    plan = prepare("dpmpp-2m", sde, 5, AlignYourSteps())
    exact = ExactDenoiser(MIXTURE, sde)
    assert plan.start.sigma < 0.5 * candidate.table.start.sigma
    assert candidate.table.start.sigma == pytest.approx(sde.t_max)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        candidate.table.run(exact, sde.t_max * x), integrate(plan, exact, plan.start.sigma * x)
    )
    own = replace(candidate.table.plan(), about={"sde": repr(sde)})
    check_levels(own, sde, "the stock solver that won")
    with pytest.raises(ValueError, match="another SDE"):
        check_levels(replace(own, about=None), sde, "a plan that ends early")
    for tunable in tunable_candidates(candidate, sde, 5, 0.5, 3):
        assert tunable.table.levels[-1].lam == pytest.approx(-math.log(sde.t_min))
