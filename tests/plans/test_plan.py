"""Properties of the tables of weights: identities, exact laws and budgets. No network, and no sampling."""

import json
import math
import re
import warnings
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Cosine,
    Karras,
    Level,
    Plan,
    RectifiedFlow,
    Tape,
    UniformLambda,
    UniformTime,
    integrate,
    iterate,
)
from scoresde.plans import Vector
from scoresde.plans.tape import Solver
from scoresde.processes import CLEAN
from scoresde.solvers import (
    DDIM,
    AnalyticalFirstStep,
    DPMSolver,
    DPMSolverPP,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    Restart,
)
from scoresde.solvers.moves import ddim
from scoresde.spacings import AtLambdas, AtTimes, Beta, Grid, QuadraticTime, Spacing, UniformSigma
from tests.problems import (
    MEAN,
    SDES,
    STOCHASTIC,
    TABLES,
    floats,
    frechet,
    gaussian,
    law,
    mixture,
    normal,
    point_mass,
    sdes,
    spread,
)

# What cannot carry a point mass exactly, and why.
INEXACT = {
    "euler": "in t: f and g^2 are frozen over a step",
    "em": "Euler in t: f and g^2 are frozen over a step",
    "reverse-diffusion": "the paper's rule, (2 - a) x for x / a, is right to first order",
    "pc": "a Langevin step of finite size has a bias; its predictor has too",
    **dict.fromkeys(
        ("sde-dpm-1", "sde-dpm-2m", "seeds-1", "seeds-2", "seeds-3"),
        "the noise that a network sees follows every draw, and is frozen over a step",
    ),
}
EXPONENTIAL = [name for name in TABLES if name not in INEXACT]
SPACINGS = [UniformTime(), QuadraticTime(), UniformLambda(), Karras(), Karras(3.0)]
spacings = st.sampled_from(SPACINGS)


def with_eta(solver: Solver, eta: float) -> Solver:
    return replace(solver, eta=eta) if hasattr(solver, "eta") else solver  # type: ignore[type-var]


@given(
    sdes,
    st.sampled_from(EXPONENTIAL),
    spacings,
    st.integers(2, 30),
    st.booleans(),
    floats(0, 1),
    floats(-3, 3),
)
def test_a_point_mass_is_carried_exactly(sde, name, spacing, steps, to_clean, eta, x0) -> None:
    """alpha_T x_0 + sigma_T eps goes to alpha_0 x_0 with the total deviation sigma_0, all noise included."""
    plan = Plan.make(with_eta(TABLES[name], eta), sde, steps, spacing, to_clean=to_clean)
    data = lambda x, level, one: x0 * one  # noqa: E731
    mean, std = law(plan, data, plan.start.alpha * x0, plan.start.sigma)
    # Each step rounds numbers of the size of sigma_T = 500 at most, 1e-16 each, and there are 60 at most.
    assert mean == pytest.approx(plan.end.alpha * x0, abs=1e-12 * max(1, plan.start.sigma))
    assert std == pytest.approx(plan.end.sigma, abs=1e-12 * max(1, plan.start.sigma))


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", EXPONENTIAL)
def test_a_point_mass_is_carried_exactly_from_alpha_0(name: str, to_clean: bool) -> None:
    plan = Plan.make(TABLES[name], RectifiedFlow(), 12, UniformTime(), to_clean=to_clean)
    assert plan.start.alpha == 0
    law_of_end = law(plan, point_mass, 0.0, 1.0)
    # Twelve steps of numbers of size 1.
    assert law_of_end == pytest.approx((plan.end.alpha, plan.end.sigma), abs=1e-13)


@pytest.mark.parametrize("name", INEXACT)
def test_the_exceptions_are_ones(name: str) -> None:
    """What is excused above does need it: its error on a point mass is real, and of order 1."""
    errors = []
    for steps in (80, 160):
        plan = Plan.make(TABLES[name], VPSDE(), steps)
        mean, std = law(plan, point_mass, plan.start.alpha, plan.start.sigma)
        errors.append(math.hypot(mean - plan.end.alpha, std - plan.end.sigma))
    assert errors[0] > 1e-5
    assert math.log2(errors[0] / errors[1]) > 0.8  # as much below order 1 as is allowed for anything


@pytest.mark.parametrize("sde", ["vp", "rectified-flow"])
@pytest.mark.parametrize("name", TABLES)
def test_weak_order_on_gaussian_data(name: str, sde: str) -> None:
    """The exact law of the output, against the law it should have, gains 4^order from 80 to 320 steps.

    A higher gain is no fault: on data this smooth 3M has order 4, and Euler-Maruyama on VE order 2.
    """
    solver = TABLES[name]

    def refined(steps: int) -> Solver:  # the steps of a restart are its own, and must shrink with the run's
        return Restart(intervals=((0.06, 0.3, steps // 8, 2),)) if isinstance(solver, Restart) else solver

    errors = [frechet(Plan.make(refined(steps), SDES[sde], steps)) for steps in (80, 320)]
    # 0.2: the next term of the error; rk4 and exp-rk4 are at 1e-11 by then, where only roundings are left.
    assert math.log2(errors[0] / errors[1]) / 2 >= solver.order - 0.2 or errors[1] < 1e-11


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_sde_form_of_dpm_solver_pp_has_its_order_at_any_eta(order: int, eta: float) -> None:
    errors = [frechet(Plan.make(DPMSolverPP(order, eta), VPSDE(), steps)) for steps in (80, 160)]
    assert math.log2(errors[0] / errors[1]) >= min(order, 2) - 0.2  # as above; noise leaves weak order 2


def test_the_weak_order_tells_the_published_3m_from_the_corrected_one() -> None:
    for sde in ("vp", "edm", "cosine", "rectified-flow"):
        errors = [frechet(Plan.make(DPMSolverPP(3, published=True), SDES[sde], steps)) for steps in (80, 160)]
        assert math.log2(errors[0] / errors[1]) < 2.2  # order 2, where 2.8 is asked for


def test_the_corrected_3m_integrates_its_parabola_exactly() -> None:
    """Its weights are those of the parabola through three outputs, integrated by quadrature."""
    points, weights = np.polynomial.legendre.leggauss(40)
    for eta in (0.0, 0.7):
        plan = Plan.make(DPMSolverPP(3, eta), Cosine(t_min=1e-2), 9, QuadraticTime())
        lams = [level.lam for level in plan.levels] + [plan.end.lam]
        levels = [*plan.levels, plan.end]
        kept = [line for line in plan.lines if line.level is None]
        for i in range(2, 9):
            h = lams[i + 1] - lams[i]
            u = (points + 1) / 2 * h  # in lam, from the beginning of the step
            nodes = [lams[i - j] - lams[i] for j in range(3)]
            row = dict(kept[i].row)
            for j in range(3):
                others = [node for node in nodes if node != nodes[j]]
                lagrange = np.prod([(u - other) / (nodes[j] - other) for other in others], 0)
                decay = (1 + eta) * np.exp(-(1 + eta) * (h - u))
                expected = levels[i + 1].alpha * (weights / 2 * h * lagrange * decay).sum()
                # 40 points integrate so smooth a function to the last digit; the weights are of size 1.
                assert row[f"d{i - j}"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_plan_uses_all_of_its_budget_and_no_more(name: str, to_clean: bool) -> None:
    """For every budget, of all runs the longest that fits; too small ones raise, naming the least."""
    solver, sde = TABLES[name], VPSDE()
    runs = [Plan.make(solver, sde, steps, to_clean=to_clean) for steps in range(1 + to_clean, 63)]
    for nfe in (*range(1, 13), 37, 60) if to_clean else range(1, 61):
        fitting = [run for run in runs if run.nfe <= nfe]
        if fitting:
            assert Plan.within(nfe, solver, sde, to_clean=to_clean) == max(fitting, key=lambda run: run.nfe)
        else:
            with pytest.raises(ValueError, match=rf"nfe must be at least {runs[0].nfe} .*got {nfe}"):
                Plan.within(nfe, solver, sde, to_clean=to_clean)


@pytest.mark.parametrize("to_clean", [False, True])
def test_a_free_step_leaves_its_call_to_another(to_clean: bool) -> None:
    for nfe in (2, 3, 5, 10, 37):
        for solver in (
            AnalyticalFirstStep(),
            AnalyticalFirstStep(DDIM()),
            Restart(AnalyticalFirstStep(), ((0.06, 0.3, 4, 2),)),
        ):
            if nfe > 9 or isinstance(solver, AnalyticalFirstStep):
                assert Plan.within(nfe, solver, EDM(), to_clean=to_clean).nfe == nfe, (nfe, solver)


def at_most(most: int, refused: list[int]) -> Spacing:
    """Even steps in lambda, of which there are no more than so many."""

    def spacing(sde: SDE, n: int) -> torch.Tensor:
        if n > most:
            refused.append(n)
            raise ValueError(f"n must be at most {most}, got {n}")
        return UniformLambda()(sde, n)

    return spacing


def test_a_spacing_of_few_steps_fills_a_budget_that_it_can_fill() -> None:
    """Whatever longer runs are tried on the way."""
    for most in (49, 50, 55, 60, 65, 70, 200):
        plan = Plan.within(100, Heun(), EDM(), at_most(most, []), to_clean=True)
        assert plan.nfe == 99, most  # 49 steps of two calls, and one to sigma = 0
    for nfe, most, solver in (
        (60, 60, DDIM()),
        (59, 60, AnalyticalFirstStep(DDIM())),
        (17, 9, Heun()),
        (18, 9, Heun()),
    ):
        assert nfe - 1 <= Plan.within(nfe, solver, VPSDE(), at_most(most, [])).nfe <= nfe


@pytest.mark.parametrize("solver", [DDIM(), Heun(), DPMSolver(3), AnalyticalFirstStep()])
def test_a_spacing_of_too_few_steps_for_a_budget_says_so(solver: Solver) -> None:
    refused: list[int] = []
    with pytest.raises(ValueError, match="n must be at most 20, got") as raised:
        Plan.within(100, solver, EDM(), at_most(20, refused))
    assert f"got {refused[0]}" in str(raised.value)  # the run that was wanted
    assert len(refused) < 8  # it is not looked for step by step


class Silent:
    """A solver that asks the network nothing, and writes nothing or a state."""

    order = 1

    def __init__(self, keeps: bool) -> None:
        self.keeps = keeps

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return tape.state(x / 2) if self.keeps else x


@pytest.mark.parametrize("keeps", [False, True])
def test_a_solver_that_asks_nothing_is_refused(keeps: bool) -> None:
    with pytest.raises(ValueError, match=r"Silent.* calls no network in a run of 3 steps"):
        Plan.make(Silent(keeps), EDM(), 3)
    with pytest.raises(ValueError, match="calls no network"):
        Plan.within(9, Silent(keeps), EDM())


class Once:
    """A solver that asks once, however many steps there are."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return tape.state(ddim(grid.levels[0], grid.levels[-1], x, tape.denoise(x, grid.levels[0])))


def test_a_budget_that_a_solver_cannot_use_is_not_looked_for_for_ever() -> None:
    assert Plan.within(1000, Once(), EDM()).nfe == 1


def between(gap: float) -> Spacing:
    """Nine levels even in lambda, and one more, so far beside the fifth."""
    lams = VPSDE().lam(UniformLambda()(VPSDE(), 8)).tolist()
    return AtLambdas(sorted([*lams, lams[4] + gap]))


MULTISTEP = [
    "dpmpp-2m",
    "dpmpp-3m",
    "adams",
    "deis",
    "lms",
    "unipc",
    "dpmpp-2m-sde",
    "sde-dpm-2m",
    "er-sde-3",
]


@pytest.mark.parametrize("name", MULTISTEP)
def test_levels_that_are_nearly_equal_are_named(name: str) -> None:
    """The rounding that is warned of is there: float32 is off by about as much from float64."""
    with pytest.warns(UserWarning, match=r"are 1e-06 apart in lambda.* float32 a rounding, to about") as told:
        plan = Plan.make(TABLES[name], VPSDE(), 9, between(1e-6))
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="apart in lambda"):
        assert Plan.within(9, TABLES[name], VPSDE(), between(1e-6)) == plan
    noise = [normal(20, seed=i) for i in range(20)]
    ends = [
        integrate(plan, mixture, noise[-1].to(dtype), lambda i, dtype=dtype: noise[i].to(dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    off = (ends[0] - ends[1]).abs().max().item()
    about = float(re.findall(r"about ([\d.e+-]+) of", str(told[0].message))[0])
    assert 0.3 * about < off < 100 * about
    if name in ("dpmpp-2m", "dpmpp-3m", "adams", "deis", "lms"):  # there is nothing but rounding
        even = Plan.make(TABLES[name], VPSDE(), 9, between(0.1))
        assert (ends[1] - integrate(even, mixture, noise[-1])).abs().max() < 0.5


@pytest.mark.parametrize("name", [name for name in TABLES if name not in MULTISTEP])
def test_levels_that_are_nearly_equal_harm_no_other_solver_unnoticed(name: str) -> None:
    """Either the solver is warned of, or its float32 is that of even levels."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plan = Plan.make(TABLES[name], VPSDE(), 9, between(1e-8))
    noise = [normal(20, seed=i) for i in range(60)]
    ends = [
        integrate(plan, mixture, noise[-1].to(dtype), lambda i, dtype=dtype: noise[i].to(dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    off = (ends[0] - ends[1]).abs().max().item()
    assert off > 0.01 if told else off < 1e-3  # seeds-2 is at 2e-4 on any levels


@pytest.mark.parametrize("name", TABLES)
def test_no_spacing_by_formula_is_warned_of(name: str) -> None:
    for sde in (VPSDE(), EDM(), SDES["sub-vp"]):
        for spacing in (UniformTime(), UniformLambda(), UniformSigma(), Karras(), Beta()):
            for steps in (2, 5, 20):
                Plan.make(TABLES[name], sde, steps, spacing, to_clean=True)


@pytest.mark.parametrize("name", TABLES)
def test_levels_that_coincide_are_said_to(name: str) -> None:
    """Two times of one lambda: what cannot step between them blames neither alpha nor sigma."""
    sde = RectifiedFlow(t_max=0.9)
    times = UniformLambda()(sde, 6).tolist()
    twice = AtTimes([*times[:4], math.nextafter(times[3], 0.0), *times[4:]])
    levels = Grid.build(sde, 7, twice).levels
    assert levels[3].lam == levels[4].lam
    why = None
    try:
        assert abs(integrate(Plan.make(TABLES[name], sde, 7, twice), gaussian, 1.0, lambda i: 0.1)) < 10
    except ValueError as error:
        why = str(error)
    assert why is None or re.search(r"that coincide: t = [\d.]+ and t = [\d.]+ are 0 apart in lambda", why)
    with pytest.raises(ValueError, match="where alpha or sigma is 0"):  # which is still said where it is so
        Plan.make(EulerMaruyama(), RectifiedFlow(), 5)


def test_the_network_is_called_at_the_levels_of_the_paper() -> None:
    """Langevin steps at the level that was reached, not the one that was left; Heun's second call too."""
    grid = Grid.build(VPSDE(), 4, UniformLambda())
    a, b, c, d, e = grid.levels
    assert Plan.make(PredictorCorrector(corrections=2), VPSDE(), 2).levels == [
        a, *[Grid.build(VPSDE(), 2, UniformLambda()).levels[1]] * 3, e, e,
    ]  # fmt: skip
    assert Plan.make(PredictorCorrector(), VPSDE(), 4).levels == [a, b, b, c, c, d, d, e]
    assert Plan.make(Heun(), VPSDE(), 4).levels == [a, b, b, c, c, d, d, e]
    assert Plan.make(DDIM(), VPSDE(), 4).levels == [a, b, c, d]
    thirds = Plan.make(DPMSolver(3), VPSDE(), 4).levels
    assert [thirds[i] for i in (0, 3, 6, 9)] == [a, b, c, d]
    for i, (t, s) in enumerate(grid.steps()):
        for r in (1, 2):
            # time_of and lam invert each other to a few roundings of numbers near 5.
            assert thirds[3 * i + r].lam == pytest.approx(t.lam + r / 3 * (s.lam - t.lam), abs=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_a_vector_lives_from_its_making_to_its_last_use(name: str) -> None:
    """No line reads what was freed, and nothing is held longer than it is read."""
    plan = Plan.make(TABLES[name], VPSDE(), 12)
    last = {n: i for i, line in enumerate(plan.lines) for n in [line.name, *line.reads]}
    live = {"x0"}
    for i, line in enumerate(plan.lines):
        live |= {line.name} | {n for n in line.reads if n[0] == "z"}
        assert set(line.reads) <= live
        done = {n for n in live if last[n] == i}
        assert set(line.done) == (done if i < len(plan.lines) - 1 else done - {line.name})
        live -= set(line.done)
    assert live == {plan.lines[-1].name}


@pytest.mark.parametrize("name", TABLES)
def test_the_number_of_live_vectors_does_not_grow_with_the_steps(name: str) -> None:
    def peak(steps: int) -> int:
        live, most = {"x0"}, 0
        for line in Plan.make(TABLES[name], VPSDE(), steps).lines:
            live |= {line.name, *line.reads}
            most = max(most, len(live))
            live -= set(line.done)
        return most

    assert peak(8) == peak(50) <= 12  # a state and what a step makes, and up to six outputs of the past


class Number:
    """A state of one number that knows how many of its kind there are."""

    alive = most = 0

    def __init__(self, value: float) -> None:
        self.value = value
        Number.alive += 1
        Number.most = max(Number.most, Number.alive)

    def __del__(self) -> None:
        Number.alive -= 1

    def __add__(self, other: "Number") -> "Number":
        return Number(self.value + other.value)

    def __rmul__(self, factor: float) -> "Number":
        return Number(factor * self.value)


@pytest.mark.parametrize("name", TABLES)
def test_the_executor_holds_no_more_than_the_live_vectors(name: str) -> None:
    """Whatever the number of steps: memory is that of a few states, outputs and draws."""

    def peak(steps: int) -> int:
        plan = Plan.make(TABLES[name], VPSDE(), steps)
        Number.most = Number.alive
        before = Number.alive
        run = iterate(plan, lambda x, level: Number(0.5 * x.value), Number(1.0), lambda i: Number(0.1))
        deque(run, maxlen=0)  # to its end, keeping nothing
        assert Number.alive == before  # nothing outlives the run
        return Number.most - before

    assert peak(8) == peak(50) <= 15  # as above; a sum, a product, and the start that its caller holds


@pytest.mark.parametrize("name", TABLES)
def test_every_draw_is_numbered_in_order_and_used_in_one_step(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 6)
    draws = [n for line in plan.lines for n in line.reads if n[0] == "z"]
    assert list(dict.fromkeys(draws)) == [f"z{i}" for i in range(len(set(draws)))]
    assert plan.stochastic == (name in STOCHASTIC) == bool(draws)
    into = Counter(n for line in plan.lines if line.name[0] == "x" for n in line.reads if n[0] == "z")
    assert all(count == 1 for count in into.values())  # however many stages of its step share it


@pytest.mark.parametrize("name", TABLES)
def test_the_executor_changes_nothing_that_it_is_given(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def remembered(value: torch.Tensor) -> torch.Tensor:
        given.append((value, value.clone()))
        return value

    def denoise(x: torch.Tensor, level: Level[float]) -> torch.Tensor:
        remembered(x)
        return remembered(mixture(x, level))

    states = [
        remembered(x)
        for x in iterate(plan, denoise, remembered(normal(7)), lambda i: remembered(normal(7, seed=i)))
    ]
    assert len(states) == sum(line.name[0] == "x" for line in plan.lines)
    assert all(torch.equal(value, copy) for value, copy in given)


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_state_gets_the_same_result(name: str) -> None:
    plan = Plan.make(TABLES[name], EDM(), 6)
    noise = [float(z) for z in normal(20)]
    by_float = integrate(plan, gaussian, 1.3, lambda i: noise[i])
    one = torch.ones(1, dtype=torch.float64)
    by_tensor = integrate(plan, gaussian, 1.3 * one, lambda i: noise[i] * one)
    by_array = integrate(plan, gaussian, np.array([1.3]), lambda i: np.array([noise[i]]))
    # The same sums, save that a tensor's multiply-add may round once where the others round twice.
    assert by_tensor.item() == pytest.approx(by_float, rel=1e-12)
    assert by_array[0] == pytest.approx(by_float, rel=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_integrate_ends_with_the_last_state_of_iterate(name: str) -> None:
    """To the bit, in place or not; what the caller holds stays as it is."""
    for to_clean in (False, True):
        plan = Plan.make(TABLES[name], EDM(), 7, to_clean=to_clean)
        draws, x = [normal(5, seed=i) for i in range(40)], 80 * normal(5)
        copies, begin = [z.clone() for z in draws], x.clone()
        *_, expected = iterate(plan, mixture, x, draws.__getitem__)
        with_gradients = integrate(plan, mixture, x, draws.__getitem__)
        with torch.no_grad():
            in_place = integrate(plan, mixture, x, draws.__getitem__)
        assert torch.equal(expected, with_gradients)
        assert torch.equal(expected, in_place)
        assert torch.equal(x, begin)
        assert all(map(torch.equal, draws, copies))


@pytest.mark.parametrize("name", TABLES)
def test_a_network_that_returns_its_input_is_not_overwritten(name: str) -> None:
    """x and its estimate are then one tensor, which a step in place would spoil."""
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    draws = [normal(5, seed=i) for i in range(40)]
    with torch.no_grad():
        same = integrate(plan, lambda x, level: x, normal(5), draws.__getitem__)
        copied = integrate(plan, lambda x, level: x.clone(), normal(5), draws.__getitem__)
    assert torch.equal(same, copied)


class EndsWithTheNetwork:
    """Euler in sigma / alpha whose last step is the network's own output, handed back as it is."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            if s.sigma == 0:
                return d
            x = tape.state(ddim(t, s, x, d))
        return x


def test_a_run_may_end_with_the_network_itself() -> None:
    ours, own = (Plan.make(solver, EDM(), 6, to_clean=True) for solver in (DDIM(), EndsWithTheNetwork()))
    x = 80 * normal(9)
    assert torch.equal(integrate(own, mixture, x), integrate(ours, mixture, x))
    assert own.end == CLEAN


class Unkept:
    """A solver that hands back its end without keeping it, and what it kept before is another thing."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        (t, s), *_ = grid.steps()
        d = tape.denoise(x, t)
        half = tape.state(x / 2)
        return 2 * half + (s.alpha - t.alpha) * d - -(s.sigma - t.sigma) * tape.denoise(half, s)


def test_what_a_solver_hands_back_is_where_its_run_ends() -> None:
    plan = Plan.make(Unkept(), EDM(), 1)
    t, s = Grid.build(EDM(), 1, UniformLambda()).levels
    # Two sums of numbers below 200.
    assert integrate(plan, gaussian, 1.0) == pytest.approx(
        1.0 + (s.sigma - t.sigma) * gaussian(0.5, s), abs=1e-12
    )


@given(floats(-9, 9), floats(-9, 9), floats(0.5, 9), st.integers(0, 3))
def test_vectors_compute_as_numbers_do(a: float, b: float, c: float, i: int) -> None:
    x, y = Vector({"x0": 1.0}), Vector({f"x{i}": 1.0})

    def formula(x: Any, y: Any) -> Any:
        return a * x - (y * b - x / c) + -y

    values = {f"x{j}": 0.7 - j for j in range(4)}
    total = sum(weight * values[name] for name, weight in formula(x, y).row)
    # Five roundings of numbers below 100.
    assert total == pytest.approx(formula(values["x0"], values[f"x{i}"]), abs=1e-12)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_saved_plan_is_the_same_plan(name: str, to_clean: bool, tmp_path: Path) -> None:
    plan = Plan.make(TABLES[name], RectifiedFlow() if name == "ddim" else VPSDE(), 7, to_clean=to_clean)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan  # every weight and level to the last bit
    noise = [normal(5, seed=i) for i in range(40)]
    runs = [integrate(p, mixture, normal(5, seed=99), lambda i: noise[i]) for p in (plan, loaded)]
    assert torch.equal(*runs)


def test_a_measured_plan_is_saved_too(tmp_path: Path) -> None:
    plan = Plan.make(PredictorCorrector(measured=True), VPSDE(), 3)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "scoresde plan 1"


@pytest.mark.parametrize("name", TABLES)
def test_a_printed_plan_shows_every_line(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 4)
    _, *rows = str(plan).splitlines()
    for row, line in zip(rows, plan.lines, strict=True):
        assert row.split()[0] == line.name
        for vector, weight in line.row:
            assert f"{weight:+.4f} {vector}" in row
        if line.level:
            assert f"{line.level.t:.4f}" in row
            assert f"{line.level.lam:+.3f}" in row
        assert ("network(" in row) == (line.level is not None)


def test_a_printed_plan_shows_measured_steps() -> None:
    text = str(Plan.make(PredictorCorrector(measured=True), VPSDE(), 4))
    assert Counter(text.split())["Langevin"] == 4


def test_amplification_is_the_largest_sum_of_weights_on_outputs() -> None:
    sde, steps = VPSDE(), 9
    t_s = list(Grid.build(sde, steps, UniformLambda()).steps())
    of_ddim = max(abs(s.alpha - s.sigma / t.sigma * t.alpha) for t, s in t_s)
    assert Plan.make(DDIM(), sde, steps).amplification == pytest.approx(of_ddim, rel=1e-14)  # one rounding
    h = t_s[0][1].lam - t_s[0][0].lam
    of_2m = max(-s.alpha * math.expm1(-h) * (2 if i else 1) for i, (_, s) in enumerate(t_s))
    # |1 + 1/2| + |1/2| = 2 on equal steps; the half log-SNRs are equal to 1e-13 only.
    assert Plan.make(DPMSolverPP(2), sde, steps).amplification == pytest.approx(of_2m, rel=1e-10)


def test_euler_maruyama_has_the_law_of_its_formula() -> None:
    """One step, written out: x + dt (f x - (1 + eta^2) / 2 g^2 score) + eta g sqrt(-dt) z."""
    sde, eta = VPSDE(), 0.6
    plan = Plan.make(EulerMaruyama(eta), sde, 1, UniformTime())
    beta_max = sde.beta_max  # at t = 1, f = -beta / 2 and g^2 = beta
    t, dt = plan.start, sde.t_max - sde.t_min
    score = (t.alpha * MEAN - 1.3) / (t.alpha**2 * 0.25 + t.sigma**2)
    drift = -beta_max / 2 * 1.3 - (1 + eta**2) / 2 * beta_max * score
    mean, std = law(plan, gaussian, 1.3, 0.0)
    # A few roundings of numbers of size 20.
    assert mean == pytest.approx(1.3 - dt * drift, abs=1e-12)
    assert std == pytest.approx(eta * math.sqrt(beta_max * dt), rel=1e-12)


def test_a_langevin_step_leaves_the_law_that_its_size_says() -> None:
    """Repeated at one level, x + e score + sqrt(2 e) z settles at the variance v / (1 - e / 2v), not v."""
    sde, snr = VPSDE(t_min=0.3), 0.2
    plan = Plan.make(PredictorCorrector(snr=snr, corrections=400), sde, 1)
    mean, std = law(plan, gaussian, 0.0, 1.0)
    v, e = spread(plan.end) ** 2, 2 * (snr * plan.end.sigma) ** 2
    # 400 steps shrink what came before to (1 - e / v)^400 < 1e-10.
    assert mean == pytest.approx(plan.end.alpha * MEAN, abs=1e-9)
    assert std**2 == pytest.approx(v / (1 - e / (2 * v)), rel=1e-9)


def test_the_measured_langevin_step_is_the_papers() -> None:
    """e = 2 (snr |z| / |score|)^2 with norms averaged over the batch (Song et al. 2021, Algorithm 5)."""
    sde, snr = VPSDE(), 0.16
    plan = Plan.make(PredictorCorrector(snr=snr, measured=True), sde, 1)
    z = [normal(6, 2, 3, seed=i) for i in range(2)]
    before, after = iterate(plan, gaussian, normal(6, 2, 3, seed=5), lambda i: z[i])
    level = plan.end
    score = (level.alpha * gaussian(before, level) - before) / level.sigma**2
    norm = lambda x: x.square().sum((1, 2)).sqrt().mean()  # noqa: E731
    e = 2 * (snr * norm(z[1]) / norm(score)) ** 2
    expected = before + e * score + (2 * e).sqrt() * z[1]
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)  # the same formula


@pytest.mark.parametrize("corrections", [0, 1, 3])
def test_corrections_follow_every_step_but_one_to_clean(corrections: int) -> None:
    solver = PredictorCorrector(corrections=corrections)
    assert Plan.make(solver, VPSDE(), 5).nfe == 5 * (1 + corrections)
    assert Plan.make(solver, VPSDE(), 5, to_clean=True).nfe == 5 + 4 * corrections


@pytest.mark.parametrize("name", TABLES)
def test_a_predictor_may_be_any_solver(name: str) -> None:
    """With hardly any Langevin noise the corrector does nothing, and the law is the predictor's own."""
    alone = Plan.make(TABLES[name], VPSDE(), 1)
    plan = Plan.make(PredictorCorrector(predictor=TABLES[name], snr=1e-9), VPSDE(), 1)
    start = (plan.start.alpha * MEAN, spread(plan.start))
    # The Langevin step adds about snr.
    assert law(plan, gaussian, *start) == pytest.approx(law(alone, gaussian, *start), abs=1e-8)


def test_what_cancels_is_forgotten() -> None:
    """Else every vector of a run would stand, with weight 0, in the corrected states of its end."""
    vector = Vector({"x0": 0.5, "d0": 2.0}) - Vector({"x0": 0.5})
    assert vector.weights == {"d0": 2.0}
