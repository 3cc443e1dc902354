"""Every solver within every other that takes one: it runs, or planning says why not."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from scoresde import EDM, VPSDE, Plan, RectifiedFlow, Tape, integrate
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
from tests.problems import TABLES, gaussian, normal

WRAPPERS: dict[str, Callable[[Solver], Solver | Integrator]] = {
    "churn": Churn,
    "restart": Restart,
    "free start": AnalyticalFirstStep,
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
    "free start": AnalyticalFirstStep(),
    "v3 without corrector": DPMSolverV3(predictor=1, corrector=0),
    "v3 of order 4": DPMSolverV3(predictor=3, corrector=4),
    "adams, iterated": ExponentialAdams(6, start="iterated"),
}
ALPHA_0 = ("euler", "em")  # what cannot start where alpha is 0
NOISE = [normal(2, 2, seed=i) for i in range(100)]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_solver_runs_in_every_wrapper(wrapper: str) -> None:
    x, ran = normal(2, 2, seed=1000), 0
    for name, inner in INNER.items():
        solver = WRAPPERS[wrapper](inner)
        for sde in (VPSDE(), RectifiedFlow()):
            for steps, to_clean in ((1, False), (2, True), (4, False)):
                if (
                    isinstance(sde, RectifiedFlow)
                    and name in ALPHA_0
                    and not (wrapper == "free start" and steps > 1)
                ):
                    with pytest.raises(ValueError, match="no finite step on RectifiedFlow"):
                        make(solver, sde, steps, to_clean)
                    continue
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
