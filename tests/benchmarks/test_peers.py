"""Agreement with the samplers of other projects to the last digits."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from peer_methods import MULTI, ROWS, SAME, SIGMA_MIN, SINGLE, UNIPC, Make, draws, made, start
from peers import azula, diffusers, k_diffusion

from scoresde import Karras, Level, Plan, UniformLambda, integrate
from scoresde.plans.tape import Solver
from scoresde.solvers.adams import ExponentialAdams
from scoresde.solvers.dpm import DPMFast, DPMSolver
from scoresde.solvers.dpmpp import DPMSolverPP
from scoresde.solvers.first_order import DDIM
from scoresde.solvers.runge_kutta import Heun
from scoresde.solvers.stochastic import DPMSolverPPSDE
from scoresde.solvers.wrappers import Churn
from scoresde.spacings import Grid
from tests.problems import SDES, mixture


@pytest.mark.parametrize(("solver", "peer", "clean", "tolerance"), ROWS)
def test_the_same_method(solver: Solver, peer: Make, clean: tuple[bool, ...], tolerance: float) -> None:
    """On uneven steps, on an SDE where neither alpha nor alpha^2 + sigma^2 is 1."""
    for to_clean in clean:
        theirs, sde = made(peer), SDES["sub-vp"]
        levels = Grid.build(sde, 12, Karras(), to_clean=to_clean).levels
        x = start(levels[0])
        ours = integrate(Plan.make(solver, sde, 12, Karras(), to_clean=to_clean), mixture, x, draws)
        torch.testing.assert_close(theirs(mixture, levels, x, draws), ours, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("solver", "order", "options"),
    [
        (DPMSolver(2, prediction="data"), 2, {}),
        (DPMSolver(2, prediction="data", form="taylor"), 2, {"solver_type": "heun"}),
        (DPMSolver(2), 2, {"algorithm_type": "dpmsolver"}),
        (DPMSolver(3, form="taylor"), 3, {"algorithm_type": "dpmsolver", "solver_type": "heun"}),
        (DPMSolver(3, prediction="data", form="taylor"), 3, {"solver_type": "heun"}),
    ],
)
def test_singlestep_dpm_solver_is_diffusers(solver: Solver, order: int, options: dict[str, Any]) -> None:
    """Their inner levels are levels of the grid: equal steps in lambda, as many as calls.

    At order 3 their ``midpoint`` reaches the second inner level by 2S's midpoint form, the paper by its
    exact one, which is their ``heun``.
    """
    theirs = made(partial(diffusers, SINGLE, solver_order=order, **options, **SIGMA_MIN))
    sde = SDES["vp"]
    levels = Grid.build(sde, 6 * order, UniformLambda()).levels
    x = start(levels[0])
    ours = integrate(Plan.make(solver, sde, 6, UniformLambda()), mixture, x)
    torch.testing.assert_close(theirs(mixture, levels, x, draws), ours, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("nfe", [7, 8, 9, 12])
def test_dpm_solver_fast_is_k_diffusions(nfe: int) -> None:
    """Its steps have orders 3, 2 and 1 and one length in lambda.

    With 3 K calls the last orders are 2 and 1; with 3 K + 1 or 3 K + 2 calls the last order is 1 or 2.
    """
    theirs = made(partial(k_diffusion, "sample_dpm_fast", n=nfe))
    plan = Plan.make(DPMFast("noise", "standard"), SDES["edm"], nfe, UniformLambda())
    assert plan.nfe == nfe
    x = start(plan.start)
    ours = integrate(plan, mixture, x)
    torch.testing.assert_close(theirs(mixture, [plan.start, plan.end], x, draws), ours, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize(
    ("solver", "name"),
    [(DDIM(), "sample_euler"), (Heun(), "sample_heun"), (DPMSolver(2), "sample_dpm_2")],
)
def test_churn_is_k_diffusions(solver: Solver, name: str, to_clean: bool) -> None:
    """With the same noise. They draw in every step, we only in steps with churn; we never go above t_max."""
    theirs = made(partial(k_diffusion, name, s_churn=4.0, s_tmax=10.0, s_noise=1.003))
    sde = SDES["edm"]
    plan = Plan.make(Churn(solver, 4.0, s_max=10.0, s_noise=1.003), sde, 12, Karras(), to_clean=to_clean)
    levels = Grid.build(sde, 12, Karras(), to_clean=to_clean).levels
    idle = sum(level.sigma > 10 for level in levels)
    x = start(levels[0])
    ours = integrate(plan, mixture, x, lambda i: draws(i + idle))
    torch.testing.assert_close(theirs(mixture, levels, x, draws), ours, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("ratio", [0.5, 0.3])
def test_dpmpp_sde_is_k_diffusions_but_for_its_path(ratio: float) -> None:
    """k-diffusion 0.1.1.post1, ``sample_dpmpp_sde``, draws two increments of a path in sigma; we continue the
    first as the SDE does. With our pairs of draws both agree."""
    theirs = made(partial(k_diffusion, "sample_dpmpp_sde", r=ratio))
    sde = SDES["edm"]
    levels = Grid.build(sde, 12, Karras()).levels
    inner = Grid(sde, levels).between(ratio)

    def ancestral(t: Level[float], s: Level[float]) -> float:
        return s.sigma * math.sqrt(1 - (s.sigma / t.sigma) ** 2)

    def paired(i: int) -> torch.Tensor:
        if i % 2 == 0:
            return draws(i)
        t, m, s = levels[i // 2], inner[i // 2], levels[i // 2 + 1]
        carried = (s.sigma / m.sigma) ** 2 * ancestral(t, m)
        return (carried * draws(i - 1) + ancestral(m, s) * draws(i)) / ancestral(t, s)

    x = start(levels[0])
    ours = integrate(Plan.make(DPMSolverPPSDE(ratio), sde, 12, Karras()), mixture, x, draws)
    torch.testing.assert_close(theirs(mixture, levels, x, paired), ours, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("solver", ["UniPC", "SA"])
def test_lower_orders_at_the_end_are_diffusers(solver: str, order: int) -> None:
    """With k steps left, a step uses k outputs in the predictor and k + 1 in the corrector."""
    if solver == "UniPC":
        peer = partial(diffusers, UNIPC, solver_order=order, final_sigmas_type="sigma_min")
        two = "bh2"
    else:
        orders = {"predictor_order": order, "corrector_order": order + 1}
        peer = partial(diffusers, "SASolverScheduler", tau_func=lambda t: torch.tensor(0.0), **orders)
        two = "bh1"
    theirs, sde = made(peer), SDES["vp"]
    levels = Grid.build(sde, 12, Karras()).levels
    x = start(levels[0])
    ours = ExponentialAdams(order, order + 1, two_point_rule=two, finish="lower")
    torch.testing.assert_close(
        theirs(mixture, levels, x, draws),
        integrate(Plan.make(ours, sde, 12, Karras()), mixture, x),
        rtol=SAME,
        atol=SAME,
    )


def test_as_shipped_they_agree_to_their_rounding() -> None:
    """All in float32, as their users run them: 12 steps with roundings of 6e-8; the denoiser, and exp(-h) - 1
    in the weights, multiply them by some hundred."""
    for peer in (
        partial(diffusers, MULTI, **SIGMA_MIN),
        partial(k_diffusion, "sample_dpmpp_2m"),
        partial(azula, "xEABSampler", order=2),
    ):
        theirs, sde = made(peer), SDES["vp"]
        levels = Grid.build(sde, 12, Karras()).levels
        x = start(levels[0])
        solver = ExponentialAdams(2) if "xEABSampler" in peer.args else DPMSolverPP(2)
        ours = integrate(Plan.make(solver, sde, 12, Karras()), mixture, x)
        end = theirs(mixture, levels, x.float(), lambda i: draws(i).float())
        assert end.dtype == torch.float32
        torch.testing.assert_close(end.double(), ours, rtol=2e-5, atol=2e-5)
