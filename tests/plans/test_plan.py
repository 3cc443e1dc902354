"""Plans: their levels, ends, printed form and amplification."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from scoresde import EDM, VPSDE, Level, Plan, Tape, UniformLambda, integrate
from scoresde.plans import Line, Vector
from scoresde.plans.names import Kind, index_of, is_name, kind_of, name_of
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM, ODE, DPMSolver, DPMSolverPP, Heun, PredictorCorrector, UniC
from scoresde.solvers.moves import ddim
from scoresde.spacings import Grid
from tests.problems import TABLES, gaussian, mixture, normal


def test_the_network_is_called_at_the_levels_of_the_paper() -> None:
    """Langevin steps at the level that was reached, not the one that was left; Heun's second call too."""
    grid = Grid.build(VPSDE(), 4, UniformLambda())
    a, b, c, d, e = grid.levels
    assert Plan.make(PredictorCorrector(corrections=2), VPSDE(), 2, UniformLambda()).levels == [
        a, *[Grid.build(VPSDE(), 2, UniformLambda()).levels[1]] * 3, e, e,
    ]  # fmt: skip
    assert Plan.make(PredictorCorrector(), VPSDE(), 4, UniformLambda()).levels == [a, b, b, c, c, d, d, e]
    assert Plan.make(Heun(), VPSDE(), 4, UniformLambda()).levels == [a, b, b, c, c, d, d, e]
    assert Plan.make(DDIM(), VPSDE(), 4, UniformLambda()).levels == [a, b, c, d]
    thirds = Plan.make(DPMSolver(3), VPSDE(), 4, UniformLambda()).levels
    assert [thirds[i] for i in (0, 3, 6, 9)] == [a, b, c, d]
    for i, (t, s) in enumerate(grid.steps()):
        for r in (1, 2):
            # time_of and lam invert each other to a few roundings of numbers near 5.
            assert thirds[3 * i + r].lam == pytest.approx(t.lam + r / 3 * (s.lam - t.lam), abs=1e-12)


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
    assert Plan.make(DDIM(), sde, steps, UniformLambda()).amplification == pytest.approx(
        of_ddim, rel=1e-14
    )  # one rounding
    h = t_s[0][1].lam - t_s[0][0].lam
    of_2m = max(-s.alpha * math.expm1(-h) * (2 if i else 1) for i, (_, s) in enumerate(t_s))
    # |1 + 1/2| + |1/2| = 2 on equal steps; the half log-SNRs are equal to 1e-13 only.
    assert Plan.make(DPMSolverPP(2), sde, steps, UniformLambda()).amplification == pytest.approx(
        of_2m, rel=1e-10
    )


class PointsInPoints:
    """x + 5 g with g = 3 h and h = x + 2 d: the weight on d is 30."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, _ in grid.steps():
            h = tape.point(x + 2 * tape.denoise(x, t))
            x = tape.state(x + 5 * tape.point(3 * h))
        return x


def without_points(plan: Plan) -> Plan:
    """The same run with every point written out where it is read."""
    points: dict[str, Vector] = {}
    lines = []
    for line in plan.lines:
        row = Vector({})
        for name, weight in line.row:
            row = row + weight * points.get(name, Vector({name: 1.0}))
        if line.kind == "point":
            points[line.name] = row
        else:
            lines.append(replace(line, row=row.row))
    return Plan.of(lines, plan.start, plan.end)


def test_amplification_counts_outputs_in_points_that_are_made_of_points() -> None:
    assert Plan.make(PointsInPoints(), EDM(), 3).amplification == 30


@pytest.mark.parametrize("name", TABLES)
def test_amplification_is_that_of_the_run_with_its_points_written_out(name: str) -> None:
    """UniC holds what its solver made, and so points of points."""
    for solver in (TABLES[name], UniC(TABLES[name])):
        plan = Plan.make(solver, VPSDE(), 6)
        # The same products, added in another order.
        assert plan.amplification == pytest.approx(without_points(plan).amplification, rel=1e-12)


NAMES: list[tuple[str, Kind, int]] = [
    ("x0", "state", 0),
    ("h7", "point", 7),
    ("d12", "output", 12),
    ("z3", "noise", 3),
]


@pytest.mark.parametrize(("name", "kind", "index"), NAMES)
def test_a_name_is_a_kind_and_a_number(name: str, kind: Kind, index: int) -> None:
    assert (kind_of(name), index_of(name), name_of(kind, index)) == (kind, index, name)
    assert is_name(name)
    for other in (name[0], name[1:], f"{name}\n", f"{name[0]}0{name[1:]}", f"{name[0]}-1", f" {name}"):
        assert not is_name(other)


@pytest.mark.parametrize("name", TABLES)
def test_a_line_knows_its_kind_its_number_and_its_noise(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    numbers: dict[Kind, list[int]] = {}
    for line in plan.lines:
        assert line.name == name_of(line.kind, line.index)
        assert (line.kind == "output") == (line.level is not None)
        assert set(line.draws) == {name for name in line.reads if kind_of(name) == "noise"}
        assert set(line.freed) <= set(line.done)
        numbers.setdefault(line.kind, [0] if line.kind == "state" else []).append(line.index)
    assert all(found == list(range(len(found))) for found in numbers.values())
    # Plain data: what is printed makes an equal plan.
    again = eval(repr(plan), {"Plan": Plan, "Line": Line, "Level": Level, "inf": math.inf})
    assert again == plan
    assert hash(again) == hash(plan)
    assert [(line.done, line.draws, line.freed) for line in again.lines] == [
        (line.done, line.draws, line.freed) for line in plan.lines
    ]


PLANNED = {
    "make": lambda solver, sde: Plan.make(solver, sde, 3),
    "within": lambda solver, sde: Plan.within(3, solver, sde),
    "on": lambda solver, sde: Plan.on(
        solver, sde, VPSDE().levels(torch.tensor([1.0, 0.5], dtype=torch.float64))
    ),
}


@pytest.mark.parametrize("plan", PLANNED.values(), ids=PLANNED)
@pytest.mark.parametrize("solver", ["ddim", None, DDIM, UniformLambda(), ODE()], ids=repr)
def test_only_a_solver_that_is_a_table_makes_a_plan(plan: Callable[..., Plan], solver: object) -> None:
    with pytest.raises(TypeError, match=r"^solver must be a solver that is a table, .* got "):
        plan(solver, VPSDE())


@pytest.mark.parametrize("plan", PLANNED.values(), ids=PLANNED)
@pytest.mark.parametrize("sde", ["vp", None, VPSDE, DDIM()], ids=repr)
def test_only_an_sde_has_a_plan(plan: Callable[..., Plan], sde: object) -> None:
    with pytest.raises(TypeError, match=r"^sde must be an SDE, such as VPSDE\(\), got "):
        plan(DDIM(), sde)


@pytest.mark.parametrize("name", TABLES)
def test_a_vector_is_done_at_the_line_after_which_none_reads_it(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    held = {"x0"}
    for i, line in enumerate(plan.lines):
        held |= {*line.reads, line.name}
        later = {read for other in plan.lines[i + 1 :] for read in other.reads} | {plan.lines[-1].name}
        assert set(line.done) == held - later
        assert len(line.done) == len(set(line.done))
        assert list(line.draws) == [read for read in line.reads if kind_of(read) == "noise"]
        assert list(line.freed) == [n for n in line.done if kind_of(n) in ("state", "point") and n != "x0"]
        held -= set(line.done)
    assert held == {plan.lines[-1].name}


def test_a_vector_that_no_line_reads_is_done_where_it_is_made() -> None:
    level = VPSDE().level_at(0.5)
    lines = [
        Line("d0", (("x0", 1.0),), level),
        Line("x1", (("x0", 0.5), ("d0", 0.5))),
        Line("d1", (("x0", 1.0),), level),
        Line("x2", (("d1", 1.0),)),
    ]
    assert [line.done for line in Plan.of(lines, level, level).lines] == [(), ("d0", "x1"), ("x0",), ("d1",)]
