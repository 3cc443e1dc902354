"""Tuned solvers: a stock plan in another form, moved by exact derivatives, and kept only if it wins."""

import json
import math
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from scoresde import (
    EDM,
    SOLVERS,
    VPSDE,
    Counted,
    ExactDenoiser,
    Karras,
    Mixture,
    Noise,
    Plan,
    RectifiedFlow,
    integrate,
    prepare,
    sample,
    tune,
)
from scoresde.denoisers.gaussian import gaussian_factor
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm
from scoresde.plans.executor import iterate
from scoresde.plans.fingerprint import check_levels
from scoresde.pretrained import pretrained
from scoresde.processes.sde import level_at
from scoresde.solvers import AnalyticalFirstStep, DPMSolverPP, ExponentialAdams
from scoresde.spacings import AlignYourSteps, AtLambdas
from scoresde.tuning import Report, Settings, judge, picture
from scoresde.tuning.derivatives import STEP, derivatives, entries, rms, step_for
from scoresde.tuning.descent import CALM, Descending
from scoresde.tuning.family import GROUPS, Family
from scoresde.tuning.fit import Fit
from scoresde.tuning.gate import bootstrap, log_ratio
from scoresde.tuning.objective import Bands, Objective
from scoresde.tuning.pairs import Pairs
from scoresde.tuning.race import freed, race, stock
from scoresde.tuning.table import Table
from scoresde.tuning.teacher import certify

EDM_CLIPPED = EDM(t_min=0.02, t_max=20.0)
SDES = (EDM_CLIPPED, VPSDE(), RectifiedFlow(t_max=0.99))
tune_module = sys.modules["scoresde.tuning.tune"]  # not the function of its name
MEANS = torch.tensor([[1.0, 0.2, -0.4], [-0.8, 0.6, 0.5], [0.1, -1.0, 0.3]], dtype=torch.float64)
MIXTURE = Mixture(MEANS, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double())


def noises(sde, n, first=0, dtype=torch.float64):
    sigma = sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64)).item()
    return sigma * Noise(5, torch.arange(first, first + n), (3,))(0).to(dtype)


def family(sde=EDM_CLIPPED, nfe=4, solver=None, window=3):
    lams = tuple(sde.lam(Karras()(sde, nfe)).tolist())
    return Family(sde, solver or DPMSolverPP(2), lams, variance=0.5, window=window)


def moved(of, groups=GROUPS, by=0.1):
    """Parameters that are not zero, and the places of those that may move."""
    places = of.places(groups)
    theta = np.zeros(of.size)
    theta[places] = by * np.sin(1.0 + np.arange(len(places)))
    return theta, places


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_every_stock_plan_is_a_table(sde):
    denoiser, x = ExactDenoiser(MIXTURE, sde), noises(sde, 4)
    names = ("heun", "dpm-fast", "pndm", "unipc", "ipndm", "deis-t", "velocity-adams", "exp-rk4")
    entered = stock(sde, 6, {name: SOLVERS[name] for name in names}, ["karras"])
    assert len(entered) == len(names)
    for entrant in entered:
        plan = Plan.within(6, SOLVERS[entrant.solver], sde, Karras())
        end = integrate(plan, denoiser, x)
        torch.testing.assert_close(integrate(entrant.table.plan(), denoiser, x), end, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(entrant.table.run(denoiser, x), end, rtol=1e-9, atol=1e-9)
        assert entrant.table.plan().nfe == plan.nfe


def test_the_table_of_a_table_is_the_same():
    of = family()
    table = of.table(moved(of)[0])
    again = Table.read(table.plan())
    assert again.levels == table.levels
    np.testing.assert_allclose(again.keep, table.keep, rtol=1e-14)
    np.testing.assert_allclose(again.weights, table.weights, rtol=1e-12, atol=1e-15)


def test_a_plan_that_draws_noise_has_no_table():
    with pytest.raises(ValueError, match="deterministic"):
        Table.read(Plan.make(SOLVERS["ancestral"], EDM_CLIPPED, 4))


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize(
    "solver", [DPMSolverPP(2), DPMSolverPP(3), ExponentialAdams(3, corrector=4)], ids=str
)
def test_no_corrections_are_the_stock_plan(sde, solver):
    of = family(sde, 5, solver)
    plan = Plan.make(solver, sde, 5, Karras())
    x, denoiser = noises(sde, 4), ExactDenoiser(MIXTURE, sde)
    assert of.start.first == 1
    torch.testing.assert_close(
        integrate(of.start.plan(), denoiser, x), integrate(plan, denoiser, x), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_the_free_step_is_exact_on_normal_data(sde):
    variance = 0.49
    normal = Mixture(torch.zeros(1, 3).double(), torch.tensor([0.7]).double(), torch.ones(1).double())
    plan = Plan.make(DPMSolverPP(3), sde, 400)
    x = noises(sde, 4)
    states = [x, *iterate(plan, ExactDenoiser(normal, sde), x)]
    level = plan.levels[160]
    torch.testing.assert_close(
        gaussian_factor(plan.start, level, variance) * x, states[160], rtol=1e-4, atol=1e-5
    )


def test_a_free_start_is_the_step_and_then_the_solver():
    sde, inner = VPSDE(), DPMSolverPP(2)
    plan = Plan.make(AnalyticalFirstStep(inner, 0.3), sde, 6, Karras())
    whole = Plan.make(inner, sde, 6, Karras())
    rest = Plan.make(inner, sde, 5, AtLambdas([level.lam for level in (*whole.levels[1:], whole.end)]))
    assert plan.nfe == rest.nfe == 5
    assert [level.lam for level in plan.levels] == pytest.approx([level.lam for level in rest.levels])
    x = torch.randn(4, 3, dtype=torch.float64)
    exact = ExactDenoiser(MIXTURE, sde)
    expected = integrate(rest, exact, gaussian_factor(whole.start, whole.levels[1], 0.3) * x)
    torch.testing.assert_close(integrate(plan, exact, x), expected, rtol=1e-9, atol=1e-12)
    assert Plan.make(AnalyticalFirstStep(inner), sde, 1) == Plan.make(inner, sde, 1)
    for variance in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="variance must be finite and at least 0"):
            AnalyticalFirstStep(inner, variance)


def test_a_first_knot_that_moves_brings_its_free_step():
    of = family()
    theta = np.zeros(of.size)
    theta[of.places(["free"])] = 0.7
    table = of.table(theta)
    assert table.levels[0].lam == pytest.approx(of.lams[0] + 0.7, abs=1e-12)
    assert table.first == pytest.approx(gaussian_factor(table.start, table.levels[0], 0.5), rel=1e-14)
    assert table.levels[-1].lam == pytest.approx(of.lams[-1], abs=1e-12)


@pytest.mark.parametrize("by", [-30.0, 30.0])
def test_knots_never_cross(by):
    of = family()
    theta, _ = moved(of, ["knots", "free"], by)
    lams = [level.lam for level in of.table(theta).levels]
    assert all(t < s for t, s in pairwise(lams))
    assert lams[0] >= of.lams[0]
    assert lams[-1] == pytest.approx(of.lams[-1], abs=1e-12)


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_derivatives_from_where_a_change_begins_are_those_of_the_whole_run(sde):
    of, denoiser = family(sde), ExactDenoiser(MIXTURE, sde)
    table = of.table(moved(of)[0])
    x = noises(sde, 3)
    pairs = Pairs(x, x)
    chosen = entries(table, np.ones_like(table.weights))
    end, made = derivatives(table, denoiser, pairs, chosen, step=1e-6)
    torch.testing.assert_close(end, table.run(denoiser, x), rtol=0, atol=0)
    for (kind, i, j), column in zip(chosen, made, strict=True):
        ends = []
        for sign in (1, -1):
            by = sign * 1e-5
            if kind == "first":
                other = replace(table, first=table.first + by)
            elif kind == "level":
                other = table.tell(i, level_near(sde, table.levels[i].lam + by))
            else:
                values = getattr(table, "keep" if kind == "keep" else "weights").copy()
                values[(i,) if kind == "keep" else (i, j)] += by
                other = replace(table, **{"keep" if kind == "keep" else "weights": values})
            ends.append(other.run(denoiser, x))
        torch.testing.assert_close(column, (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def level_near(sde, lam):
    from scoresde.processes.sde import level_at

    return level_at(sde, lam)


def first_two(x):
    """A map that knows nothing of the third coordinate."""
    return torch.stack([x[:, 0] + 0.1 * x[:, 0] ** 2, torch.sin(x[:, 1])], 1)


@pytest.mark.parametrize("robust", [True, False])
@pytest.mark.parametrize("perceive", [None, first_two], ids=["samples", "perceived"])
def test_the_gradient_is_that_of_the_objective(robust, perceive):
    of, denoiser = family(), ExactDenoiser(MIXTURE, EDM_CLIPPED)
    theta, places = moved(of, by=0.05)
    x = noises(EDM_CLIPPED, 12)
    pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(3), EDM_CLIPPED, 64), denoiser, x))
    bands = Bands.of(pairs.target, 3)
    objective = Objective(0.01, bands, 0.5, 1e-3, robust)
    fit = Fit(of, denoiser, objective, batch_size=5, step=1e-6, perceive=perceive)
    ((gradient, matrix),) = fit.quadratics(theta, [fit.near(theta, pairs, places)], places)
    for k, place in enumerate(places):
        ends = []
        for sign in (1, -1):
            other = theta.copy()
            other[place] += sign * 1e-5
            ends.append(fit.value(other, pairs))
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=2e-3, abs=2e-3)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_a_sample_that_may_soon_end_elsewhere_counts_little_in_the_model():
    """One sample of twelve answers a hundred times as strongly, and would decide every step alone."""

    def network(x, level, gain):
        return gain[:, None] * x

    network.sde = EDM_CLIPPED
    x = noises(EDM_CLIPPED, 12)
    pairs = Pairs(x, x, torch.tensor([10.0] + [0.1] * 11, dtype=torch.float64))
    of = family(nfe=2)
    fit, places = Fit(of, network, Objective(1e3, None, robust=False)), of.places(("weights", "scales"))

    def sizes(part):
        theta = np.zeros(of.size)
        models = fit.quadratics(theta, [fit.near(theta, part, places, (np.inf, CALM))], places)
        return [np.trace(matrix) * len(part) for _, matrix in models]

    (whole, calmed), (rest, calmed_rest) = sizes(pairs), sizes(pairs[1:])
    assert whole > 100 * rest
    assert calmed < 10 * rest
    assert calmed_rest == pytest.approx(rest, rel=0.2)  # as before


def test_what_parts_said_elsewhere_is_exact_where_ends_are_linear():
    """In the weights of the last row they are: two parts looked at elsewhere give the quadratic of today."""
    of, denoiser = family(), ExactDenoiser(MIXTURE, EDM_CLIPPED)
    x = noises(EDM_CLIPPED, 24)
    pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(3), EDM_CLIPPED, 64), denoiser, x))
    fit = Fit(of, denoiser, Objective(0.01, None, robust=False), step=1e-6)
    places = of.groups()["weights"][-3:]
    here = np.zeros(of.size)
    nears = []
    for part, by in ((pairs[:16], 0.2), (pairs[16:], -0.3)):
        there = here.copy()
        there[places] = by
        nears.append(fit.near(there, part, places))
    ((gradient, matrix),) = fit.quadratics(here, nears, places)
    ((expected, other),) = fit.quadratics(here, [fit.near(here, pairs, places)], places)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)  # float64, of numbers near 1
    np.testing.assert_allclose(matrix, other, rtol=1e-9)


def test_no_derivative_is_taken_of_what_cannot_move():
    """Weights older than the window stay 0."""
    of = family(nfe=6, window=2)
    fit = Fit(of, EXACT, Objective(0.01, None))
    for groups, weights in ((("weights",), 11), (("knots",), 11), (("scales",), 11)):
        assert fit._moving(np.zeros(of.size), of.places(groups)).sum() == weights
    whole = family(nfe=6, window=0)
    assert Fit(whole, EXACT, fit.objective)._moving(np.zeros(of.size), whole.places(["weights"])).sum() == 21


def test_an_iteration_takes_derivatives_of_one_part_only():
    of, calls = family(), []

    def counted(x, level, cond=None):
        calls.append(len(x))
        return ExactDenoiser(MIXTURE, EDM_CLIPPED)(x, level)

    counted.sde = EDM_CLIPPED
    x = noises(EDM_CLIPPED, 96)
    pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(3), EDM_CLIPPED, 64), counted, x))
    spent = {}
    for part in (96, 24):
        descending = Descending(
            Fit(of, counted, Objective(0.01, None)), pairs, pairs, of.places(GROUPS), part
        )
        state, known = descending.begin(np.zeros(of.size)), {}
        for _ in range(2):  # the first looks at all parts
            calls.clear()
            state = descending.improve(state, known)
        spent[part] = sum(calls)
        assert len(set(state.looked)) == (1 if part == 96 else 2)
    assert spent[24] < 0.5 * spent[96]


def test_the_step_of_the_differences_is_right_for_a_network():
    """A hundredth of the state's size is a change that a network does not answer linearly."""
    network = pretrained("mnist").denoiser
    sde = network.sde
    of = Family(sde, ExponentialAdams(), tuple(sde.lam(Karras()(sde, 3)).tolist()), variance=0.4)
    theta, places = moved(of, ("scales", "knots"), by=0.1)
    x = 80.0 * Noise(0, torch.arange(12), (1, 28, 28))(0)
    cond = torch.arange(12) % 10
    with torch.no_grad():
        pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(2), sde, 8), network, x, cond), cond)
        fit = Fit(of, network, Objective(0.05, Bands.of(pairs.target, 4), 0.2))
        ((gradient, _),) = fit.quadratics(theta, [fit.near(theta, pairs, places)], places)
        slopes = []
        for place in places:
            by = np.eye(of.size)[place] * 1e-3
            slopes.append((fit.value(theta + by, pairs) - fit.value(theta - by, pairs)) / 2e-3)
    # Measured 0.003 of it; with steps of 0.01, 0.09 here, and more where samples change class.
    assert np.linalg.norm(gradient - slopes) < 0.02 * np.linalg.norm(slopes)


def test_the_step_grows_with_the_rounding_of_a_network():
    """sqrt(eps) / 2, within a factor of 2 for 8 samples; rounding to a unit has a variance of 1/12 of it."""
    sde = EDM_CLIPPED
    level = level_at(sde, 0.0)
    x = (
        level.alpha * MEANS.float()[torch.arange(8) % 3]
        + level.sigma * noises(sde, 8, dtype=torch.float32) / 20
    )

    def rounded(unit):
        return lambda x, level, cond=None: (EXACT(x.double(), level) / unit).round() * unit

    assert step_for(EXACT, x, level) == STEP
    size = float(rms(EXACT(x, level)))
    for unit in (1e-4, 1e-3):
        expected = math.sqrt(unit / math.sqrt(12) / size) / 2
        assert 0.5 < step_for(rounded(unit), x, level) / expected < 2
    shipped = pretrained("mnist").denoiser
    x, cond = Noise(0, torch.arange(8), (1, 28, 28))(0), torch.arange(8)
    level = level_at(shipped.sde, 0.0)
    low = Denoiser(shipped.net, shipped.sde, shipped.prediction, dtype=torch.bfloat16)
    with torch.no_grad():
        steps = [step_for(one, x, level, cond) for one in (shipped, low)]
    assert steps[0] < 1e-3
    assert 5e-3 < steps[1] < 5e-2


def test_bands_are_an_orthonormal_split_of_the_energy():
    for shape, constant, count in (((20, 2, 6, 8), 0, 8), ((20, 11), 0, 4), ((20, 3, 2, 3), 1, 6)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x[:, :constant] = 0.5
        bands = Bands.of(x, 4)
        assert len(bands.energy) == count  # a small image has no energy in some, a constant channel in none
        each = bands.each(bands.turned(x))
        torch.testing.assert_close(each.sum(1), (x - x.mean(0)).square().flatten(1).sum(1))
        torch.testing.assert_close(each.mean(0), bands.energy)


@pytest.mark.parametrize("part", [96, 32])
def test_a_fit_lowers_the_objective_and_goes_on_to_the_same_bits(part):
    of, denoiser = family(), ExactDenoiser(MIXTURE, EDM_CLIPPED)
    plan = Plan.make(DPMSolverPP(3), EDM_CLIPPED, 64)
    train, valid = (
        Pairs(x, integrate(plan, denoiser, x))
        for x in (noises(EDM_CLIPPED, 96), noises(EDM_CLIPPED, 96, 500))
    )
    fit = Fit(of, denoiser, Objective(0.01, None))
    places = of.places(GROUPS)
    descending = Descending(fit, train, valid, places, part=part)
    first = descending.begin(np.zeros(of.size))
    whole = descending.descend(np.zeros(of.size), iterations=4)
    assert whole.least < 0.5 * first.least
    on_both = [(now + value) / 2 for now, value in whole.history]
    assert whole.least == pytest.approx(min(on_both))
    state = first
    for _ in whole.history[1:]:
        state = descending.improve(state, {})
    assert state == whole


def test_the_bootstrap_knows_a_difference_from_none():
    generator = np.random.default_rng(1)
    a = generator.exponential(size=(400, 1))
    better = bootstrap(log_ratio, 0.5 * a, a)
    assert better.low == pytest.approx(0.5 * math.log(0.5), abs=1e-12)  # paired: no noise is left
    assert better.high == pytest.approx(0.5 * math.log(0.5), abs=1e-12)
    none = bootstrap(log_ratio, generator.exponential(size=(400, 1)), a)
    assert none.low < 0 < none.high


FEW = {"solvers": ("ddim", "dpmpp-2m"), "spacings": ("karras",)}
EXACT = ExactDenoiser(MIXTURE, EDM_CLIPPED)


def tuned(nfe=3, state=None, perceive=None, **settings):
    settings = Settings(**{"samples": 64, "held_out": 128, "iterations": 2, "bands": 3, **FEW} | settings)
    return tune(EXACT, nfe, (3,), settings=settings, batch_size=256, state=state, perceive=perceive)


@pytest.fixture(scope="module")
def whole():
    """One tuning, looked at by several tests."""
    return tuned()


def test_tuning_beats_the_best_stock_solver_and_says_by_how_much(whole):
    plan, report = whole
    assert report.tuned
    assert plan.nfe == report.nfe == 3
    assert report.gain.high < 0
    x = noises(EDM_CLIPPED, 1000, 10_000, torch.float32)
    target = integrate(Plan.make(DPMSolverPP(3), EDM_CLIPPED, 100), EXACT, x)
    fresh = (integrate(plan, EXACT, x) - target).square().mean().sqrt().item()
    assert fresh < report.stock_rmse.low
    assert report.coupling[0] == pytest.approx(math.sqrt(3) * report.rmse.value, rel=1e-6)
    assert report.teacher.share < 0.05
    assert "returned" in str(report)


def only_the_first(x):
    return x[:, :1]


def test_what_is_perceived_decides(whole, monkeypatch):
    made = []
    measured = judge.measured
    monkeypatch.setattr(judge, "measured", lambda *given: made.append(measured(*given)) or made[-1])
    plan, report = tuned(perceive=only_the_first)
    assert plan != whole[0]
    ours, _, theirs = made
    assert report.gain.value == pytest.approx(0.5 * math.log(ours.seen.mean() / theirs.seen.mean()))
    assert report.rmse.value == pytest.approx(math.sqrt(ours.squares.mean()))
    assert ours.seen.mean() != pytest.approx(ours.squares.mean(), rel=1e-3)
    assert whole[1].gain.value == pytest.approx(math.log(whole[1].rmse.value / whole[1].stock_rmse.value))


def test_what_does_not_win_is_not_returned(monkeypatch):
    """A tuned table that is the stock solver's own wins nothing; nor does one that is twice as far."""
    entered = stock(EDM_CLIPPED, 3, {name: SOLVERS[name] for name in FEW["solvers"]}, FEW["spacings"])
    for spoilt in (lambda table: table, lambda table: replace(table, keep=2 * table.keep)):
        best = []

        def judged(task, start, table, descent, stocks, test, state, spoilt=spoilt, best=best):
            best.append(stocks[0])
            return judge.judged(task, start, spoilt(stocks[0].table), descent, stocks, test, state)

        monkeypatch.setattr(tune_module, "judged", judged)
        plan, report = tuned(iterations=0)
        assert not report.tuned
        assert plan.about["tuned"] is False
        (own,) = [one for one in entered if one.name == report.stock]
        assert plan == own.table.plan() == best[0].table.plan()
        assert "did not beat" in str(report)


def test_an_interrupted_tuning_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    """Interrupted before the race, when the teacher is known, and again in the fit."""
    path = tmp_path / "state"
    places = {(tune_module, "freed"): 1, (Descending, "improve"): 3}
    for (owner, name), after in places.items():
        function, done = getattr(owner, name), []

        def interrupted(*arguments, function=function, done=done, after=after):
            done.append(1)
            if len(done) == after:
                raise KeyboardInterrupt
            return function(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                tuned(state=path)
        with monkeypatch.context() as patch:  # the teacher is not asked again
            patch.setattr(tune_module, "certify", None)
            if name == "improve":
                plan, again = tuned(state=path)
    assert plan == whole[0]
    assert plan.about == whole[0].about
    assert replace(again, seconds=0, calls=0) == replace(whole[1], seconds=0, calls=0)
    with monkeypatch.context() as patch:  # another budget has the same teacher, if it is good enough
        patch.setattr(tune_module, "certify", None)
        _, other = tuned(nfe=2, state=path)
    assert other.teacher.calls == again.teacher.calls
    with pytest.raises(ValueError, match="another tuning"):
        tuned(state=path, iterations=1)
    with pytest.raises(ValueError, match="another tuning"):
        tuned(nfe=4, state=path, samples=65)


def test_the_points_of_a_fine_run_are_on_the_exact_path():
    fine, coarse = (Table.read(Plan.make(DPMSolverPP(2), EDM_CLIPPED, n)) for n in (40, 4))
    x = noises(EDM_CLIPPED, 50)
    ratios, errors = picture._away(fine, EXACT, x, None, 80)
    assert len(ratios) == len(errors) == 40  # all points but the start, and the end
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(math.exp(-fine.levels[-1].lam))
    assert max(errors) < 0.1 * max(picture._away(coarse, EXACT, x, None, 80)[1])


def test_a_race_runs_no_round_that_drops_nobody():
    counted = Counted(EXACT)
    names = ("ddim", "dpmpp-2m", "deis")
    entered = stock(EDM_CLIPPED, 4, {name: SOLVERS[name] for name in names}, ("karras",))
    x = noises(EDM_CLIPPED, 300)
    pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(3), EDM_CLIPPED, 64), EXACT, x))
    for keep, noises_run in ((3, 3 * 256), (1, 3 * 16 + 256)):
        before = counted.evaluations
        (best, error), *_ = race(entered, counted, pairs, 300, keep)
        assert counted.evaluations - before == 4 * noises_run
        first = (best.table.run(EXACT, x[:256]) - pairs.target[:256]).square().mean().sqrt()
        assert error == pytest.approx(float(first), rel=1e-12)


def test_the_starts_have_free_steps_to_several_levels(tmp_path):
    tuned(state=tmp_path, iterations=1)
    (state,) = tmp_path.glob("state-3.json")
    starts = json.loads(state.read_text())["starts"]
    assert [", free to" in start for start in starts] == [False, True, True, True]
    assert len({start.partition(", ")[2] for start in starts}) == 4


@pytest.mark.parametrize(("behind", "second"), [(1.0, 0), (math.inf, 2)])
def test_a_start_that_is_far_behind_does_not_go_on(behind, second, tmp_path, monkeypatch):
    """And one that is alone goes to the last heat at once."""
    monkeypatch.setattr("scoresde.tuning.heats.BEHIND", behind)
    tuned(state=tmp_path, iterations=1)
    heats = json.loads((tmp_path / "state-3.json").read_text())["heats"]
    assert [len(heat) for heat in heats] == [4, second, 1]
    least = {name: descent["least"] for name, descent in heats[0].items()}
    assert set(heats[1]) == set(sorted(least, key=least.get)[:second])
    assert set(heats[2]) <= set(sorted(least, key=least.get)[: second or 1])


@pytest.mark.parametrize("robust", [True, False])
def test_samples_that_cannot_be_followed_count_less_until_the_last_heat(robust, tmp_path, monkeypatch):
    """And what parts said of that objective says nothing of the other."""
    begun, begin = [], Descending.begin

    def seen(self, theta, before=None):
        state = begin(self, theta, before)
        begun.append((self.fit.objective.robust, len(self.train), len(state.looked)))
        return state

    monkeypatch.setattr(Descending, "begin", seen)
    tuned(samples=256, robust=robust)
    few = [one for one in begun if one[1] < 256]
    assert few == [(True, 64, 0)] * 4 + [(True, 128, 1)] * (len(few) - 4)
    assert begun[len(few) :] == [(True, 256, 2)] + [(False, 256, 0)] * (not robust)


def test_as_many_finalists_as_asked_for_go_on_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("scoresde.tuning.heats.BEHIND", math.inf)
    tuned(state=tmp_path, iterations=1, finalists=3, robust=False)
    heats = json.loads((tmp_path / "state-3.json").read_text())["heats"]
    assert [len(heat) for heat in heats] == [4, 0, 3, 3]  # nobody would go in the second
    least = {name: descent["least"] for name, descent in heats[0].items()}
    assert set(heats[3]) == set(sorted(least, key=least.get)[:3])


def test_a_stock_solver_that_begins_late_begins_with_the_same_noise():
    """Align-your-steps ends before the SDE's noisiest level."""
    sde = EDM()
    (entrant,) = stock(sde, 5, {"dpmpp-2m": SOLVERS["dpmpp-2m"]}, ["align-your-steps"])
    plan = prepare("dpmpp-2m", sde, 5, AlignYourSteps())
    exact = ExactDenoiser(MIXTURE, sde)
    assert plan.start.sigma < 0.5 * entrant.table.start.sigma
    assert entrant.table.start.sigma == pytest.approx(sde.t_max)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        entrant.table.run(exact, sde.t_max * x), integrate(plan, exact, plan.start.sigma * x)
    )
    own = replace(entrant.table.plan(), about={"sde": repr(sde)})
    check_levels(own, sde, "the stock solver that won")
    with pytest.raises(ValueError, match="another SDE"):
        check_levels(replace(own, about=None), sde, "a plan that ends early")
    for family in freed(entrant, sde, 5, 0.5, 3):
        assert family.table.levels[-1].lam == pytest.approx(-math.log(sde.t_min))


def test_a_report_is_loaded_as_it_was_saved(whole, tmp_path):
    _, report = whole
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="no report"):
        Report.load(tmp_path / "report.json")


def test_a_tuned_plan_is_printed_saved_loaded_and_run_to_the_same_bits(whole, tmp_path):
    plan, report = whole
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.about == plan.about == report.network | {"nfe": 3, "seed": 0, "tuned": True}
    assert str(again) == str(plan)
    assert str(plan).count("network(") == 3
    expected = sample(EXACT, plan, (4, 3))
    assert torch.equal(sample(EXACT, again, (4, 3)), expected)
    assert torch.equal(sample(EXACT, f"tuned:{tmp_path / 'plan.json'}", (4, 3)), expected)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.drop = nn.Linear(3, 3), nn.Dropout(0.5)

    def forward(self, x, t):
        return self.drop(self.inner(x))


class Noisy(Small):
    def forward(self, x, t):
        return self.inner(x) + 0.01 * torch.randn_like(x)


def test_bad_input_is_refused_before_anything_is_spent():
    sde, exact = EDM_CLIPPED, ExactDenoiser(MIXTURE, EDM_CLIPPED)
    with pytest.raises(ValueError, match="at least 2"):
        tune(exact, 1, (3,))
    with pytest.raises(ValueError, match="at most 256"):
        tune(exact, 257, (3,))
    with pytest.raises(ValueError, match=r"at least 2.*2\.5"):
        tune(exact, 2.5, (3,))
    with pytest.raises(ValueError, match="samples"):
        tune(exact, 8, (3,), settings=Settings(samples=16, held_out=64))
    with pytest.raises(ValueError, match="training mode"):
        tune(Denoiser(Small(), sde, edm()), 4, (3,))
    with pytest.raises(ValueError, match="dropout"):
        tune(Denoiser(Noisy().eval(), sde, edm()), 4, (3,))


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"samples": 1}, "samples must be an integer of at least 2, got 1"),
        ({"held_out": 10.5}, r"held_out .*10\.5"),
        ({"window": -1}, "window"),
        ({"bands": -1}, "bands"),
        ({"starts": 0}, "starts"),
        ({"iterations": -1}, "iterations"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": -0.1}, "gamma"),
        ({"groups": ("weights", "level")}, "weights, scales, knots, free, got level"),
        ({"groups": ()}, "got none"),
    ],
)
def test_bad_settings_are_refused_when_made(settings, pattern):
    with pytest.raises(ValueError, match=pattern):
        Settings(**settings)


def test_the_teacher_is_certified_on_all_noises_of_the_fit():
    """Of 96, all but the first 64 need more calls than those."""

    def harder(x, level, cond):
        return EXACT(x, level) + 0.1 * (cond[:, None] >= 64) * math.sin(20 * level.lam)

    harder.sde = EDM_CLIPPED
    settings = Settings(samples=64, held_out=64, iterations=0, bands=0, **FEW)
    calls = [
        tune(harder, 3, (3,), cond=cond, settings=settings, batch_size=256)[1].teacher.calls
        for cond in (torch.zeros(160), torch.arange(160))
    ]
    assert calls[0] < calls[1]


def test_a_teacher_that_does_not_converge_is_an_error():
    def rough(x, level, cond=None):
        return torch.sin(1e4 * level.lam + x)

    x = noises(EDM_CLIPPED, 8)
    rough.sde = EDM_CLIPPED
    with pytest.raises(ValueError, match="does not converge"):
        certify(rough, x, None, 256, lambda pairs: 0.1, 8)
