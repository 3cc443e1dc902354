"""The README's promise to a contributor: one class and one entry make a solver known everywhere."""

import inspect
import math
import statistics
from dataclasses import dataclass

import pytest
import torch

from scoresde import EDM, SOLVERS, VPSDE, Denoiser, Plan, Tape, UniformLambda, integrate, predict, sample
from scoresde.plans import Vector
from scoresde.solvers import solver_of
from scoresde.solvers.integrators.base import Integrator
from scoresde.solvers.moves import ddim, eps_of, move
from scoresde.spacings import Grid
from tests.problems import SDES, frechet, mixture, reference


@dataclass(frozen=True)
class Ralston:
    """Ralston's rule in sigma / alpha: the noise at t, and at two thirds of the way."""

    share: float = 0.75
    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            if math.isinf(s.lam - t.lam):
                x = tape.state(ddim(t, s, x, d))
                continue
            (m,) = grid.at([-math.log((math.exp(-t.lam) + 2 * math.exp(-s.lam)) / 3)])
            u = ddim(t, m, x, d)
            eps = (1 - self.share) * eps_of(t, x, d) + self.share * eps_of(m, u, tape.denoise(u, m))
            x = tape.state(move(t, s, x, eps))
        return x


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "ralston", Ralston())  # type: ignore[arg-type]


@pytest.mark.usefixtures("_registered")
def test_one_entry_makes_a_solver_known_everywhere() -> None:
    assert solver_of("ralston:share=0.5") == Ralston(0.5)
    denoiser = Denoiser(lambda x, t: 0.3 * x, VPSDE(), predict.noise)
    assert sample(denoiser, "ralston", (4, 2), nfe=9).isfinite().all()
    with pytest.raises(ValueError, match="did you mean 'ralston'"):
        solver_of("ralson")
    with pytest.raises(ValueError, match="'ralston' has no option 'ratio'"):
        solver_of("ralston:ratio=1")


@pytest.mark.parametrize("sde", SDES)
def test_it_has_the_order_it_says_on_every_sde(sde: str) -> None:
    x, exact = reference(sde)
    plans = [Plan.make(Ralston(), SDES[sde], n, UniformLambda()) for n in (80, 160)]
    errors = [(integrate(plan, mixture, x) - exact).abs().mean() for plan in plans]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    laws = [frechet(plan) for plan in plans]
    assert math.log2(laws[0] / laws[1]) > 1.8


def test_its_plan_is_data() -> None:
    plan = Plan.within(9, Ralston(), EDM(), to_clean=True)
    assert plan.nfe == 9
    assert plan.end.sigma == 0
    assert not plan.stochastic
    assert torch.equal(integrate(plan, mixture, torch.ones(3)), integrate(plan, mixture, torch.ones(3)))


def test_solvers_are_short() -> None:
    """10 to 20 lines that read like their paper."""
    lines = {
        type(solver): len(inspect.getsource(type(solver).solve).splitlines())
        for solver in SOLVERS.values()
        if not isinstance(solver, Integrator)
    }
    assert statistics.median(lines.values()) <= 20
