"""Every solver within every other that takes one: it runs with its order, or planning says why not."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDM, VPSDE, Level, Plan, RectifiedFlow, Tape, UniformLambda, integrate
from scoresde.plans import Vector
from scoresde.plans.tape import Solver
from scoresde.solvers import (
    DDIM,
    IPNDM,
    PNDM,
    AnalyticalFirstStep,
    Churn,
    DPMSolverPP,
    DPMSolverV3,
    ExponentialAdams,
    Parallel,
    PredictorCorrector,
    Restart,
    RungeKutta4,
    UniC,
)
from scoresde.solvers.integrators.base import Integrator
from scoresde.solvers.moves import ddim
from scoresde.spacings import Grid
from tests.problems import STD, STOCHASTIC, TABLES, frechet, gaussian, law, normal, spread

WRAPPERS: dict[str, Callable[[Solver], Solver | Integrator]] = {
    "churn": Churn,
    "restart": Restart,
    "analytical first step": AnalyticalFirstStep,
    "pc": PredictorCorrector,
    "pc, measured": lambda solver: PredictorCorrector(solver, measured=True),
    "unic": UniC,
    "unic of noise": lambda solver: UniC(solver, ExponentialAdams(corrector=3, prediction="noise")),
    "unic of velocity": lambda solver: UniC(
        solver, ExponentialAdams(corrector=3, prediction="velocity", variable="u")
    ),
    "unic twice": lambda solver: UniC(UniC(solver)),
    "churn of unic": lambda solver: Churn(UniC(solver)),
    "parallel": Parallel,
}
INNER: dict[str, Solver] = TABLES | {
    "pc, measured": PredictorCorrector(measured=True),
    "analytical first step": AnalyticalFirstStep(),
    "v3 without corrector": DPMSolverV3(predictor=1, corrector=0),
    "v3 of order 4": DPMSolverV3(predictor=3, corrector=4),
    "adams, iterated": ExponentialAdams(6, start="iterated"),
}
NOISE = [normal(2, 2, seed=i) for i in range(100)]
NOISE3 = [normal(3, 2, seed=i) for i in range(100)]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_solver_runs_in_every_wrapper(wrapper: str) -> None:
    x, ran = normal(2, 2, seed=1000), 0
    for name, inner in INNER.items():
        solver = WRAPPERS[wrapper](inner)
        for sde in (VPSDE(), RectifiedFlow()):
            for steps, to_clean in ((1, False), (2, True), (4, False)):
                plan = make(solver, sde, steps, to_clean)
                if isinstance(solver, Parallel):
                    ask = lambda x, level, rows=None: 0.3 * x  # noqa: E731
                    end = solver.prepare(sde, plan.nfe, to_clean=to_clean).integrate(
                        ask, x, NOISE.__getitem__
                    )
                else:
                    end = integrate(plan, gaussian, x, NOISE.__getitem__)
                assert end.isfinite().all(), (name, sde, steps)
                ran += 1
    assert ran > 5 * len(INNER)


def make(solver: Solver | Integrator, sde: VPSDE | RectifiedFlow, steps: int, to_clean: bool) -> Plan:
    return Plan.make(solver.solver if isinstance(solver, Parallel) else solver, sde, steps, to_clean=to_clean)  # type: ignore[arg-type]


# Solvers whose steps use history: the order of a step without it is 1, but for PNDM's.
HISTORY = {"dpm-fast", "dpmpp-2m", "dpmpp-2m-heun", "dpmpp-3m", "dpmpp-3m-published", "unipc", "unipc-bh1"}
HISTORY |= {"adams", "deis", "deis-rho", "deis-t", "lms", "velocity-adams", "ipndm", "ipndm-v", "unipc-noise"}
HISTORY |= {"unic", "dpm-solver-v3", "dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-3m-sde-published", "sa-solver"}
HISTORY |= {"sa-solver-published", "sde-dpm-2m", "er-sde-2", "er-sde-3", "auto"}
HISTORY |= {"velocity-p2c3", "velocity-p3c4", "velocity-p4c5", "velocity-p5c6"}
# As the inner solver these do not converge in a wrapper: each step, as a run of one step, gets the noise of
# a whole run; an interval keeps its number of steps.
RUNS = ("churn", "restart")
STEPS, EVEN = (40, 80, 160), UniformLambda()


def falls(errors: list[float]) -> float:
    """The order that three errors show, each of twice the steps: at one halving two errors may cancel."""
    return max(math.log2(a / b) for a, b in pairwise(errors))


def singly(name: str) -> int:
    """The order of a solver whose steps are taken without history."""
    return 1 if name in HISTORY else TABLES[name].order


@pytest.mark.parametrize("name", [name for name in TABLES if name not in RUNS])
def test_churn_has_the_law_of_the_data_to_the_order_of_its_solver(name: str) -> None:
    errors = [frechet(Plan.make(Churn(TABLES[name]), VPSDE(), n, EVEN)) for n in STEPS]
    # Measured 0.4 below at order 3, where the errors of h^3 and h^4 have opposite signs.
    assert falls(errors) > singly(name) - 0.45


@pytest.mark.parametrize("name", [name for name in TABLES if name not in RUNS])
def test_restart_has_the_law_of_the_data_to_the_order_of_its_solver(name: str) -> None:
    """With the intervals refined, too. Every turn begins with the first steps of a multistep solver."""
    solvers = [Restart(TABLES[name], ((0.06, 0.3, n // 4, 2),)) for n in STEPS]
    errors = [frechet(Plan.make(s, VPSDE(), n, EVEN)) for s, n in zip(solvers, STEPS, strict=True)]
    # Five outputs are few at the start of every turn: the steps of lower order there show.
    order = 2 if name in ("velocity-p4c5", "velocity-p5c6") else TABLES[name].order
    assert falls(errors) > order - 0.3  # 0.16 measured


@pytest.mark.parametrize("name", [name for name in TABLES if name not in RUNS])
def test_an_analytical_first_step_keeps_the_order_on_gaussian_data_of_its_variance(name: str) -> None:
    """There it is exact: what is left is the solver's error over the other steps."""

    def centred(x: Any, level: Level[float], one: Any) -> Any:
        return STD**2 * level.alpha / ((level.alpha * STD) ** 2 + level.sigma**2) * x

    errors = []
    for n in STEPS:
        plan = Plan.make(AnalyticalFirstStep(TABLES[name], STD**2), VPSDE(), n, EVEN)
        mean, deviation = law(plan, centred, 0.0, spread(plan.start))
        assert mean == 0
        errors.append(abs(deviation - spread(plan.end)))
    assert falls(errors) > TABLES[name].order - 0.3  # 0.19 measured


@pytest.mark.parametrize("name", [name for name in TABLES if name not in RUNS])
def test_predictor_corrector_has_the_law_of_the_data_to_order_1(name: str) -> None:
    """With Langevin steps of a size of order 1 / n, whose own error of the variance is so, too."""
    solvers = [PredictorCorrector(TABLES[name], 0.5 / math.sqrt(n)) for n in STEPS]
    errors = [frechet(Plan.make(s, VPSDE(), n, EVEN)) for s, n in zip(solvers, STEPS, strict=True)]
    # Or the error of the Langevin steps alone, 1.6e-4 measured, and less where the predictor's cancels it.
    assert falls(errors) > 0.8 or errors[-1] < 2e-4


@pytest.mark.parametrize("outputs", [2, 3])
@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("name", [name for name in TABLES if name not in (*STOCHASTIC, *RUNS)])
def test_unic_has_an_order_more_than_the_step_inside(name: str, prediction: str, outputs: int) -> None:
    rule = ExponentialAdams(corrector=outputs, prediction=prediction)
    # From 80 steps on: around heun errors of two signs cancel at fewer.
    errors = [frechet(Plan.make(UniC(TABLES[name], rule), VPSDE(), 2 * n, EVEN)) for n in STEPS]
    assert falls(errors) > min(singly(name) + 1, outputs) - 0.3  # 0.13 measured


@pytest.mark.parametrize("name", TABLES)
def test_parallel_without_tolerance_ends_where_its_solver_does(name: str) -> None:
    x = normal(3, 2, seed=7)
    run = Parallel(TABLES[name], 4, 0.0).prepare(VPSDE(), 2 * Plan.make(TABLES[name], VPSDE(), 3).nfe)
    plan = Plan.within(2 * Plan.make(TABLES[name], VPSDE(), 3).nfe, TABLES[name], VPSDE())

    def bent(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        alpha = level.alpha[:, None] if isinstance(level.alpha, Tensor) else level.alpha
        return alpha * (0.3 * x).tanh()

    expected = integrate(plan, bent, x, NOISE3.__getitem__)
    # The same sums; a product with a float and one with a tensor may round differently.
    torch.testing.assert_close(run.integrate(bent, x, NOISE3.__getitem__), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("inner", "alone"),
    [
        (IPNDM(), DDIM()),
        (PNDM(), RungeKutta4()),
        (DPMSolverV3(), DDIM()),
        (DPMSolverPP(3), DDIM()),
        (ExponentialAdams(3, prediction="noise"), DDIM()),
        (UniC(DDIM()), DDIM()),
    ],
)
def test_unic_around_what_has_a_history_is_unic_around_its_first_step(inner: Solver, alone: Solver) -> None:
    x = 80 * normal(5)
    for to_clean in (False, True):
        ours, expected = (Plan.make(UniC(s), EDM(), 7, to_clean=to_clean) for s in (inner, alone))
        assert ours.nfe == expected.nfe
        # Sums of numbers of up to 200, in another order.
        torch.testing.assert_close(
            integrate(ours, gaussian, x), integrate(expected, gaussian, x), rtol=1e-12, atol=1e-11
        )


def test_unic_carries_a_measured_langevin_step() -> None:
    plan = Plan.make(UniC(PredictorCorrector(measured=True)), VPSDE(), 4)
    assert sum(line.measured is not None for line in plan.lines) == 4
    assert plan.nfe == 1 + 4 + 3  # at the start, by four corrections, and at the ends of three steps


@dataclass(frozen=True)
class Twice:
    """A step that asks at its first level twice, at two points."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.state(ddim(t, s, x, (d + tape.denoise(0.5 * x, t)) / 2))
        return x


def test_unic_answers_for_the_network_at_the_point_that_it_knows_alone() -> None:
    plan = Plan.make(UniC(Twice()), EDM(), 5)
    assert plan.nfe == 10
    t, s = plan.start, Plan.make(UniC(Twice()), EDM(), 1).end
    by_hand = ddim(t, s, 3.0, (gaussian(3.0, t) + gaussian(1.5, t)) / 2)  # type: ignore[arg-type]
    assert integrate(Plan.make(UniC(Twice()), EDM(), 1), gaussian, 3.0) == pytest.approx(by_hand, rel=1e-12)


def test_unic_takes_a_rule_of_its_kind_only() -> None:
    with pytest.raises(ValueError, match="rule must have a corrector"):
        UniC(rule=DDIM())  # type: ignore[arg-type]
