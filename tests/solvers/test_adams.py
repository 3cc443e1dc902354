"""Exponential Adams methods: their orders, their weights, and the solvers of the field that they are."""

import math
from collections.abc import Callable
from itertools import pairwise
from math import exp, expm1, factorial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from scoresde import EDM, VPSDE, Karras, Level, Plan, RectifiedFlow, UniformLambda, integrate
from scoresde.plans.names import index_of, kind_of
from scoresde.plans.tape import Solver
from scoresde.solvers import DPMSolver, DPMSolverPP, ExponentialAdams, Heun, UniC
from scoresde.spacings import Grid
from tests.problems import SDES, frechet, mixture, normal
from tests.solvers.test_order import measured_order, noise_of

FORMS = [
    ("data", "lambda"),
    ("noise", "lambda"),
    ("noise", "rho"),
    ("noise", "t"),
    ("velocity", "u"),
    ("velocity", "lambda"),
    ("data", "u"),
]


@pytest.mark.parametrize("predictor", [1, 2, 3, 4])
@pytest.mark.parametrize(("on", "variable"), FORMS)
@pytest.mark.parametrize("name", ["vp", "edm", "rectified-flow"])
def test_the_order_is_the_number_of_outputs(name: str, on: str, variable: str, predictor: int) -> None:
    """With a start of that order; a ramp's first step would show at order 4."""
    solver = ExponentialAdams(predictor, prediction=on, variable=variable, start="iterated")
    assert solver.order == predictor
    # The next power of h still shows at 160 steps: 3.08 and 3.70 at the most and least.
    assert measured_order(solver, name, steps=160) == pytest.approx(predictor, abs=0.3)


def smooth(x: Tensor, level: Level[float]) -> Tensor:
    """The denoiser of two wide normal distributions that overlap: no detail for a grid to resolve first."""
    var = level.alpha**2 + level.sigma**2
    return (level.alpha * x + level.sigma**2 * 0.8 * torch.tanh(0.8 * level.alpha * x / var)) / var


@pytest.mark.parametrize("corrector", [0, 6, 7])
@pytest.mark.parametrize("on", ["data", "noise"])
def test_order_five_and_more(on: str, corrector: int) -> None:
    """On a smooth problem, at errors of 1e-8 to 1e-11: higher there is no order yet, lower is rounding."""
    sde = EDM(0.1, 10.0)
    x = 10 * torch.linspace(-2, 2, 9, dtype=torch.float64)

    def end(solver: Solver, steps: int) -> Tensor:
        result: Tensor = integrate(Plan.make(solver, sde, steps, UniformLambda()), smooth, x)
        return result

    exact = end(ExponentialAdams(6, corrector=7, prediction=on, start="iterated"), 400)
    for predictor in (5, 6):
        solver = ExponentialAdams(predictor, corrector=corrector, prediction=on, start="iterated")
        errors = [(end(solver, n) - exact).abs().mean().item() for n in (96, 128)]
        assert solver.order == (min(corrector, predictor + 1) or predictor)
        assert math.log(errors[0] / errors[1]) / math.log(4 / 3) > solver.order - 0.3


@pytest.mark.parametrize("name", SDES)
def test_a_corrector_adds_an_order_and_no_call(name: str) -> None:
    plain, corrected = ExponentialAdams(2), ExponentialAdams(2, corrector=3)
    assert Plan.make(corrected, SDES[name], 9).nfe == Plan.make(plain, SDES[name], 9).nfe == 9
    assert measured_order(plain, name) == pytest.approx(2, abs=0.1)
    assert measured_order(corrected, name, steps=160) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize(("predictor", "corrector"), [(2, 1), (3, 2)])
def test_a_corrector_of_fewer_outputs_has_their_order(predictor: int, corrector: int) -> None:
    solver = ExponentialAdams(predictor, corrector)
    assert solver.order == corrector
    assert measured_order(solver, "vp") == pytest.approx(corrector, abs=0.1)


@pytest.mark.parametrize(("inner", "outputs"), [(DPMSolver(1), 2), (DPMSolver(2), 3), (Heun(), 3)])
def test_a_corrector_on_any_solver_adds_an_order_and_no_call(inner: Solver, outputs: int) -> None:
    solver = UniC(inner, ExponentialAdams(corrector=outputs))
    assert Plan.make(solver, VPSDE(), 9).nfe == Plan.make(inner, VPSDE(), 9).nfe
    assert solver.order == inner.order + 1
    assert measured_order(solver, "vp") == pytest.approx(solver.order, abs=0.1)


@pytest.mark.parametrize("predictor", [2, 3, 4, 5, 6])
def test_an_iterated_start_costs_what_it_says(predictor: int) -> None:
    plan = Plan.make(ExponentialAdams(predictor, start="iterated"), VPSDE(), 20)
    assert plan.nfe == 20 + (predictor - 1) * max(predictor - 3, 0)
    assert sum(line.kind == "state" for line in plan.lines) == 20  # a state for every level


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize(
    ("general", "special"),
    [
        (ExponentialAdams(1), DPMSolverPP(1)),
        (ExponentialAdams(2, two_point_rule="bh2"), DPMSolverPP(2)),
        (ExponentialAdams(2), DPMSolverPP(2, form="heun")),
        (ExponentialAdams(3, two_point_rule="bh2"), DPMSolverPP(3)),
        (ExponentialAdams(2, two_point_rule="bh2", tau=1.0), DPMSolverPP(2, eta=1.0)),
        (ExponentialAdams(3, tau=0.6), DPMSolverPP(3, eta=0.36, form="heun")),
    ],
    ids=["1m", "2m", "2m-heun", "3m", "2m-sde", "3m-sde"],
)
def test_dpm_solver_plus_plus_is_adams_on_the_data(
    general: Solver, special: Solver, name: str, to_clean: bool
) -> None:
    """Two ways to the same weights, by quadrature and by the paper's phi functions."""
    x, draws = normal(9), [normal(9, seed=i) for i in range(20)]
    ends = [
        integrate(Plan.make(s, SDES[name], 15, Karras(), to_clean=to_clean), mixture, x, draws.__getitem__)
        for s in (general, special)
    ]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)  # 15 steps of roundings, in other orders


def unipc(x: Tensor, grid: Grid, p: int, b: str, on_data: bool) -> Tensor:
    """2302.04867, Algorithms 1 and 2, in matrices: R_p(h) rho = b_p / B(h); theirs at all but 2 outputs."""
    output: Callable[[Tensor, Level[float]], Tensor] = mixture if on_data else noise_of
    past = [(grid.levels[0].lam, output(x, grid.levels[0]))]
    for t, s in grid.steps():
        h = s.lam - t.lam
        hh = -h if on_data else h
        scale = expm1(hh) if b == "bh2" else hh
        if on_data:
            base, factor = s.sigma / t.sigma * x - s.alpha * expm1(-h) * past[0][1], -s.alpha
        else:
            base, factor = s.alpha / t.alpha * x - s.sigma * expm1(h) * past[0][1], -s.sigma
        r = [(lam - t.lam) / h for lam, _ in past[1:p]] + [1.0]
        rhs, phi = [], expm1(hh) / hh - 1
        for k in range(1, len(r) + 1):
            rhs.append(phi * factorial(k) / scale)
            phi = phi / hh - 1 / factorial(k + 1)
        matrix = np.array([[ri ** (k - 1) for ri in r] for k in range(1, len(r) + 1)])
        differences = [(m - past[0][1]) / ri for ri, (_, m) in zip(r[:-1], past[1:p], strict=False)]
        rho = [0.5] if len(r) == 2 else np.linalg.solve(matrix[:-1, :-1], rhs[:-1])
        point = base + factor * scale * sum(w * d for w, d in zip(rho, differences, strict=True))
        if s is grid.levels[-1]:
            return point
        new = output(point, s)
        rho = [0.5] if len(r) == 1 else np.linalg.solve(matrix, rhs)
        x = base + factor * scale * sum(
            w * d for w, d in zip(rho, [*differences, new - past[0][1]], strict=True)
        )
        past = [(s.lam, new), *past][:6]
    raise AssertionError


@pytest.mark.parametrize("on", ["data", "noise"])
@pytest.mark.parametrize("b", ["bh1", "bh2"])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["vp", "rectified-flow"])
def test_unipc_is_that_of_its_paper(name: str, p: int, b: str, on: str) -> None:
    """Its matrices on uneven steps; B(h) matters only where two outputs are joined."""
    grid = Grid.build(SDES[name], 20, Karras())
    solver = ExponentialAdams(p, corrector=p + 1, prediction=on, two_point_rule=b)
    ours = integrate(Plan.make(solver, SDES[name], 20, Karras()), mixture, normal(9))
    torch.testing.assert_close(ours, unipc(normal(9), grid, p, b, on == "data"), rtol=1e-8, atol=1e-8)
    # eight digits: the paper's recursion for phi divides by h at every order


@pytest.mark.parametrize("on", ["data", "noise"])
@pytest.mark.parametrize("p", [3, 4])
def test_unipc_with_varying_coefficients_is_the_exact_form(p: int, on: str) -> None:
    """Solved for the polynomial, whatever B: all rows of the corrector count."""
    exact, bh = (
        Plan.make(ExponentialAdams(p, corrector=p + 1, prediction=on, two_point_rule=two), VPSDE(), 12)
        for two in ("exact", "bh2")
    )
    past_the_start = slice(3 * p, None)
    for line, other in zip(exact.lines[past_the_start], bh.lines[past_the_start], strict=True):
        assert dict(line.row) == pytest.approx(dict(other.row), rel=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_lms_integrates_lagrange_polynomials_in_rho(order: int) -> None:
    """k-diffusion's linear multistep method, by scipy's adaptive quadrature."""
    sde = EDM()
    grid = Grid.build(sde, 12, Karras())
    sigmas = [level.sigma for level in grid.levels]
    x, past = 80 * normal(5), []
    ours = integrate(
        Plan.make(ExponentialAdams(order, prediction="noise", variable="rho"), sde, 12, Karras()), mixture, x
    )
    for i, (t, s) in enumerate(grid.steps()):
        past = [noise_of(x, t), *past][:order]
        for j, m in enumerate(past):

            def basis(rho: float, i: int = i, j: int = j, n: int = len(past)) -> float:
                return math.prod(
                    (rho - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]) for k in range(n) if k != j
                )

            x = x + quad(basis, t.sigma, s.sigma, epsrel=1e-12, epsabs=1e-14)[0] * m
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("order", "weights"),
    [(2, (3 / 2, -1 / 2)), (3, (23 / 12, -16 / 12, 5 / 12)), (4, (55 / 24, -59 / 24, 37 / 24, -9 / 24))],
)
def test_on_even_steps_the_weights_are_those_of_adams_and_bashforth(
    order: int, weights: tuple[float, ...]
) -> None:
    def even(sde: RectifiedFlow, n: int) -> Tensor:
        rho = torch.linspace(5.0, 0.2, n + 1, dtype=torch.float64)
        return sde.time_of(-rho.log())

    sde = EDM(0.2, 5.0)
    plan = Plan.make(ExponentialAdams(order, prediction="noise", variable="rho"), sde, 12, even)
    held = [(plan.levels[index_of(name)], w) for name, w in plan.lines[-1].row if kind_of(name) == "point"]
    # What is held is sigma times the noise.
    assert [w * level.sigma / (-4.8 / 12) for level, w in held] == pytest.approx(weights, rel=1e-9)


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.4])
@pytest.mark.parametrize("nodes", [2, 4])
def test_sa_solver_integrates_equation_14_of_its_paper(nodes: int, tau: float) -> None:
    """2309.05019: the weights of the data, (1 + tau^2) exp(-(1 + tau^2)(lam_s - lam)) l_j, by scipy."""
    sde = VPSDE()
    plan = Plan.make(ExponentialAdams(nodes, tau=tau), sde, 10, Karras())
    levels = [*plan.levels, plan.end]
    t, s = levels[-2:]
    known = [level.lam for level in levels[-1 - nodes : -1]]
    row, k = dict(plan.lines[-1].row), 1 + tau**2
    for j, a in enumerate(known):

        def weighted(lam: float, a: float = a) -> float:
            return k * exp(-k * (s.lam - lam)) * math.prod((lam - b) / (a - b) for b in known if b != a)

        exact = s.alpha * quad(weighted, t.lam, s.lam, epsrel=1e-12)[0]
        assert row[f"d{len(plan.levels) - nodes + j}"] == pytest.approx(exact, rel=1e-9, abs=1e-12)
    kept = s.sigma / t.sigma * exp(-(tau**2) * (s.lam - t.lam))
    noise = s.sigma * math.sqrt(-expm1(-2 * tau**2 * (s.lam - t.lam)))
    assert row[f"x{len(plan.levels) - 1}"] == pytest.approx(kept, rel=1e-12)
    assert row[f"z{len(plan.levels) - 1}"] == pytest.approx(noise, rel=1e-12)


@pytest.mark.parametrize(("predictor", "corrector"), [(1, 0), (2, 0), (2, 2), (3, 4)])
def test_sa_solver_has_the_weak_order_it_says(predictor: int, corrector: int) -> None:
    solver = ExponentialAdams(predictor, corrector, tau=1.0)
    errors = [frechet(Plan.make(solver, VPSDE(), n, UniformLambda())) for n in (40, 80, 160)]
    assert min(math.log2(a / b) for a, b in pairwise(errors)) > solver.order - 0.2


def test_tau_is_zero_outside_of_its_interval() -> None:
    plan = Plan.make(ExponentialAdams(2, tau=1.0, tau_from=0.05, tau_to=1.0), EDM(), 20, Karras())
    steps = [line for line in plan.lines if line.kind == "state"]
    for line, level in zip(steps, [*plan.levels[1:], plan.end], strict=True):
        assert bool(line.draws) == (0.05 <= level.sigma <= 1.0)


def test_a_lower_finish_ends_with_one_output() -> None:
    plan = Plan.make(ExponentialAdams(3, finish="lower"), VPSDE(), 10)
    states = [line for line in plan.lines if line.kind == "state"]
    joined = [sum(kind_of(name) == "output" for name, _ in line.row) for line in states]
    assert joined == [1, 2, 3, 3, 3, 3, 3, 3, 2, 1]


@pytest.mark.parametrize("variable", ["lambda", "rho", "u", "t"])
@pytest.mark.parametrize("on", ["data", "noise", "velocity"])
@pytest.mark.parametrize("to_clean", [False, True])
def test_it_starts_where_alpha_is_zero(on: str, variable: str, to_clean: bool) -> None:
    """Rectified flow at t = 1: the first step is the denoiser's, and what was said there is not joined."""
    for solver in (
        ExponentialAdams(3, 4, prediction=on, variable=variable),
        ExponentialAdams(4, start="iterated"),
    ):
        plan = Plan.make(solver, RectifiedFlow(), 8, to_clean=to_clean)
        assert integrate(plan, mixture, normal(5)).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"predictor": 0}, ["predictor", "from 1 to 6", "0"]),
        ({"predictor": 2.5}, ["predictor", "integer", "2.5"]),
        ({"corrector": 8}, ["corrector", "0 to 7", "8"]),
        ({"prediction": "score"}, ["prediction must be", "velocity", "score"]),
        ({"variable": "sigma"}, ["variable must be", "rho", "sigma"]),
        ({"two_point_rule": "bh3"}, ["two_point_rule must be", "bh1", "bh3"]),
        ({"start": "euler"}, ["start must be", "iterated", "euler"]),
        ({"finish": "none"}, ["finish must be", "lower", "none"]),
        ({"tau": -1.0}, ["tau must be", "-1.0"]),
        ({"tau": 1.0, "prediction": "velocity"}, ["tau must be 0", "velocity"]),
        ({"tau": 1.0, "start": "iterated"}, ["tau must be 0", "iterated"]),
    ],
)
def test_bad_arguments(arguments: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        ExponentialAdams(**arguments)  # type: ignore[arg-type]
    assert all(word in str(error.value) for word in words)


def test_a_corrector_needs_a_rule_that_corrects() -> None:
    with pytest.raises(ValueError, match="rule must have a corrector"):
        UniC(rule=ExponentialAdams(3))
