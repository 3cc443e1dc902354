"""What guidance samples from, on two normal laws, where the ODE and the SDE of guidance have closed forms.

D is of N(0, a^2), D_other of N(0, b^2), sigma from infinity to 0. Both are linear, so a run carries its
variance exactly: the state is the row of coefficients of the noise at the start and of each draw.
"""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from scoresde import EDM, Guided, Plan, integrate
from scoresde.conditioning import Given
from scoresde.denoisers.protocol import as_denoiser
from scoresde.processes.level import Level
from tests.conditioning.guided_networks import normal
from tests.problems import DETERMINISTIC, STOCHASTIC, TABLES

A, B, WEIGHT = 0.5, 1.0, 2.0
ODE = A**WEIGHT * B ** (1 - WEIGHT)
TILTED = (WEIGHT / A**2 + (1 - WEIGHT) / B**2) ** -0.5  # p_other (p / p_other)^w


def h(q: float) -> float:
    return (A**2 + q) ** (2 * WEIGHT) * (B**2 + q) ** (2 - 2 * WEIGHT)


SDE = math.sqrt(h(0) * quad(lambda q: 1 / h(q), 0, math.inf)[0])

# Tables whose noise is not that of the reverse SDE, by design: each has another law.
OTHER_NOISE = ["churn", "er-sde-1", "er-sde-2", "er-sde-3", "restart"]
OF_SDE = [name for name in STOCHASTIC if name not in (*OTHER_NOISE, "pc")]


def deviation(name: str, calls: int, weight: object = WEIGHT) -> float:
    """The deviation at the end of a run, to rounding."""
    plan = Plan.within(calls, TABLES[name], EDM())
    draws = torch.eye(1 + plan.draws, dtype=torch.float64)
    denoiser = Guided(normal(A), normal(B), weight)  # type: ignore[arg-type]
    with torch.no_grad():
        end = integrate(plan, denoiser, plan.start.sigma * draws[0], lambda i: draws[1 + i])
    return float(end.norm())


def test_the_closed_forms():
    assert (ODE, TILTED) == (0.25, pytest.approx(0.377964, abs=1e-6))
    assert pytest.approx(0.3307, abs=5e-5) == SDE


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_law_of_the_ode(name):
    """Four times the calls must not move it: a strength that is added once a step would."""
    coarse, fine = (abs(deviation(name, calls) - ODE) for calls in (100, 400))
    # Those of order 1 have an error of 2.97 / calls; the others, 1.9e-4 at the most.
    assert fine < (0.002 if TABLES[name].order > 1 else 0.003)
    assert coarse < 0.02


@pytest.mark.parametrize("name", OF_SDE)
def test_the_law_of_the_reverse_sde(name):
    fine = abs(deviation(name, 400) - SDE)
    # Those of order 1 have an error of 2.5 / calls; the others, 5e-4 at the most.
    assert fine < (0.005 if TABLES[name].order > 1 else 0.0075)
    assert fine < 0.002 or abs(deviation(name, 800) - SDE) < 0.6 * fine


@pytest.mark.parametrize("name", OTHER_NOISE)
def test_another_noise_has_another_law(name):
    """Less noise leaves it nearer to the law of the ODE, and more nearer to the tilted law."""
    found = [deviation(name, calls) for calls in (400, 1600)]
    assert all(ODE < one < TILTED for one in found)
    assert found[0] == pytest.approx(found[1], abs=0.002)


def test_langevin_steps_lead_to_the_tilted_law():
    """The score of guidance at a level is that of the tilted law there; more levels have more corrections."""
    found = [deviation("pc", calls) for calls in (100, 400, 1600)]
    assert [SDE, *found, TILTED] == sorted([SDE, *found, TILTED])


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-2m-sde"])
def test_without_guidance_each_law_is_itself(name, weight):
    assert deviation(name, 400, weight) == pytest.approx(A if weight else B, abs=1e-3)


@pytest.mark.parametrize("name", ["dpmpp-2m", "ancestral", "dpmpp-2m-sde"])
def test_equal_covariances_are_exact(name):
    """N(1, a^2) and N(0, a^2): the law of guidance is N(w, a^2), of any run and at any level."""

    class Shifted:
        sde = EDM()

        def __call__(self, x, level, cond=None):
            variance = level.alpha**2 * A**2 + level.sigma**2
            mean = 0.0 if cond is None else 1.0
            return mean + level.alpha * A**2 / variance * (x - level.alpha * mean)

    net = as_denoiser(Shifted())
    plan = Plan.within(200, TABLES[name], EDM())
    x, cond = torch.zeros(3, 1, dtype=torch.float64), torch.ones(3)
    one = Guided(net, Given(net, None), 3.0)
    end = integrate(plan, lambda y, level: one(y, level, cond), x, lambda i: torch.zeros_like(x))
    # Started from 0 in place of 3 alpha, at sigma = 80: this mean is lost in the noise, up to a / 80.
    assert torch.allclose(end, torch.full_like(end, 3.0), atol=0.03)
    level = EDM().level_at(2.0)
    y = torch.linspace(-2, 5, 3, dtype=torch.float64)[:, None]
    exact = 3.0 + A**2 / (A**2 + level.sigma**2) * (y - 3.0)
    torch.testing.assert_close(one(y, level, cond), exact, rtol=1e-13, atol=1e-13)


LAMBDA = 0.6


class PlusPlus:
    """The weight lambda / (1 - e^-h) of a plan's steps, h the step in log(alpha / sigma)."""

    def __init__(self, plan: Plan) -> None:
        levels = (*plan.levels, plan.end)
        self.steps = {a.lam: b.lam - a.lam for a, b in pairwise(levels)}

    def __call__(self, level: Level[float]) -> float:
        return LAMBDA / -math.expm1(-self.steps[level.lam])


def cfg_plus_plus(plan: Plan, x: torch.Tensor) -> torch.Tensor:
    """Chung et al. 2024 (arXiv 2406.08070, algorithm 2): the guided data, the noise of D_other."""
    for t, s in pairwise((*plan.levels, plan.end)):
        d, other = normal(A)(x, t), normal(B)(x, t)
        x = s.alpha * (other + LAMBDA * (d - other)) + s.sigma * (x - t.alpha * other) / t.sigma
    return x


@pytest.mark.parametrize("calls", [10, 50, 200])
def test_cfg_plus_plus_is_guidance_with_a_weight_of_the_step(calls):
    plan = Plan.within(calls, TABLES["ddim"], EDM())
    x = plan.start.sigma * torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    expected = cfg_plus_plus(plan, x)
    found = integrate(plan, Guided(normal(A), normal(B), PlusPlus(plan)), x)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)  # 200 steps of roundings


def test_cfg_plus_plus_has_no_limit_in_the_number_of_steps():
    """Its law shrinks to a point, because the weight of a step of guidance grows with their number."""
    found = []
    for calls in (10, 20, 50, 100, 200):
        plan = Plan.within(calls, TABLES["ddim"], EDM())
        found.append(deviation("ddim", calls, PlusPlus(plan)))
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.3
    assert found[-1] < 0.01
