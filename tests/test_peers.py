"""Agreement with independent implementations to the last digits, and where they differ, why.

Each peer's own code runs in our float64, on our levels, with our noise and the exact denoiser of the mixture
(``benchmarks/peers.py``), so that what is left to differ is the method. Where a peer has a fault, the fault
is asserted, with its cause: we shall see when it is mended. ``requirements-peers.lock`` pins what this was
written against.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from scoresde import Karras, Level, Plan, RectifiedFlow, UniformLambda, integrate
from scoresde.plans.tape import Solver
from scoresde.solvers.adams import ExponentialAdams
from scoresde.solvers.dpm import DPMFast, DPMSolver
from scoresde.solvers.dpmpp import DPMSolverPP
from scoresde.solvers.first_order import DDIM
from scoresde.solvers.pndm import IPNDM, PNDM
from scoresde.solvers.runge_kutta import Heun
from scoresde.solvers.stochastic import DPMSolverPPSDE, SDEDPMSolver
from scoresde.solvers.wrappers import Churn
from scoresde.spacings import AtTimes, Grid
from tests.problems import MEAN, SDES, gaussian, mixture, normal, reference, spread

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from peers import Peer, azula, diffusers, k_diffusion

# Some hundred roundings of numbers below 10; what is measured is 1e-14.
SAME = 1e-12
SIGMA_MIN = {"final_sigmas_type": "sigma_min", "lower_order_final": False}
MULTI, SINGLE, UNIPC = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
NUMPY = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its functions, on tensors
Make = Callable[[], Peer]


def made(peer: Make) -> Peer:
    """The peer, or a skip where it is not installed."""
    try:
        return peer()
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")


def draws(i: int) -> torch.Tensor:
    return normal(20, 1, seed=i + 1)


def start(level: Level[float]) -> torch.Tensor:
    return math.hypot(level.alpha, level.sigma) * normal(20, 1)


def row(
    ours: Solver,
    project: Callable[..., Peer],
    name: str,
    *,
    clean: tuple[bool, ...] = (False,),
    tolerance: float = SAME,
    **options: Any,
) -> Any:
    told = ",".join(f"{key}={value}" for key, value in options.items() if not callable(value))
    peer = partial(project, name, **options)
    return pytest.param(ours, peer, clean, tolerance, id=f"{project.__name__}.{name}({told})")


BOTH = (False, True)


def sa(predictor: int, corrector: int, tau: float, on: str, tolerance: float = SAME) -> Any:
    """SA-Solver's code replaces its two-point data weights by those of UniPC's B = h."""
    ours = ExponentialAdams(
        predictor, corrector, on, tau=tau, two_point_rule="bh1" if on == "data" else "exact"
    )
    return row(
        ours,
        diffusers,
        "SASolverScheduler",
        predictor_order=predictor,
        corrector_order=corrector,
        algorithm_type=f"{on}_prediction",
        tau_func=lambda t: torch.tensor(tau),
        lower_order_final=False,
        tolerance=tolerance,
    )


ROWS = [
    # The Euler step in sigma / alpha has many names.
    row(DDIM(), k_diffusion, "sample_euler", clean=BOTH),
    row(DDIM(), azula, "EulerSampler", clean=BOTH),
    row(DDIM(), diffusers, "EulerDiscreteScheduler", clean=BOTH),
    row(DDIM(), diffusers, "DDIMScheduler", clip_sample=False, clean=BOTH),
    row(DDIM(), diffusers, MULTI, solver_order=1, **SIGMA_MIN),
    # Ancestral noise: sigma_up of the VE form, the posterior's deviation, and a share of it. DDPM's scheduler
    # draws none in its last step, where ours has none only if it is to clean.
    row(DDIM(1.0), k_diffusion, "sample_euler_ancestral", clean=BOTH),
    row(DDIM(0.5), k_diffusion, "sample_euler_ancestral", eta=0.5, clean=BOTH),
    row(DDIM(1.0), azula, "DDPMSampler", clean=BOTH),
    row(DDIM(0.5), azula, "DDIMSampler", eta=0.25, clean=BOTH),  # eta is the share of the variance there
    row(DDIM(1.0), diffusers, "EulerAncestralDiscreteScheduler", clean=BOTH),
    row(DDIM(0.5), diffusers, "DDIMScheduler", clip_sample=False, eta=0.5, clean=BOTH),
    row(DDIM(1.0), diffusers, "DDPMScheduler", clip_sample=False, clean=(True,)),
    # Two calls a step.
    row(Heun(), k_diffusion, "sample_heun", clean=BOTH),
    row(Heun(), azula, "HeunSampler"),
    row(Heun(), diffusers, "HeunDiscreteScheduler", clean=BOTH),
    row(DPMSolver(2), k_diffusion, "sample_dpm_2", clean=BOTH),
    row(DPMSolver(2), diffusers, "KDPM2DiscreteScheduler", clean=BOTH),
    row(DPMSolver(2, prediction="data"), k_diffusion, "sample_dpmpp_2s_ancestral", eta=0.0, clean=BOTH),
    row(DPMSolverPPSDE(eta=0.0), k_diffusion, "sample_dpmpp_sde", eta=0.0, clean=BOTH),
    row(DPMSolverPPSDE(0.3, eta=0.0), k_diffusion, "sample_dpmpp_sde", eta=0.0, r=0.3, clean=BOTH),
    # Multistep on the data. 3M begins with the heun form of 2M there.
    row(DPMSolverPP(2), k_diffusion, "sample_dpmpp_2m", clean=BOTH),
    row(DPMSolverPP(2), diffusers, MULTI, **SIGMA_MIN),
    row(DPMSolverPP(2), diffusers, MULTI, lower_order_final=False, clean=(True,)),
    row(DPMSolverPP(2, form="heun"), diffusers, MULTI, solver_type="heun", **SIGMA_MIN),
    row(DPMSolverPP(2, 1.0), k_diffusion, "sample_dpmpp_2m_sde", clean=BOTH),
    row(DPMSolverPP(2, 0.5), k_diffusion, "sample_dpmpp_2m_sde", eta=0.5, clean=BOTH),
    row(DPMSolverPP(2), k_diffusion, "sample_dpmpp_2m_sde", eta=0.0, clean=BOTH),
    row(DPMSolverPP(2, 1.0, "heun"), k_diffusion, "sample_dpmpp_2m_sde", solver_type="heun", clean=BOTH),
    row(DPMSolverPP(1, 1.0), diffusers, MULTI, algorithm_type="sde-dpmsolver++", solver_order=1, **SIGMA_MIN),
    row(DPMSolverPP(2, 1.0), diffusers, MULTI, algorithm_type="sde-dpmsolver++", **SIGMA_MIN),
    row(DPMSolverPP(3, form="heun", published=True), k_diffusion, "sample_dpmpp_3m_sde", eta=0.0, clean=BOTH),
    row(DPMSolverPP(3, 1.0, "heun", published=True), k_diffusion, "sample_dpmpp_3m_sde", clean=BOTH),
    row(DPMSolverPP(3, published=True), diffusers, MULTI, solver_order=3, **SIGMA_MIN),
    row(DPMSolverPP(3, form="heun"), azula, "xEABSampler", order=3),
    *[row(ExponentialAdams(n), azula, "xEABSampler", order=n) for n in (1, 2, 3, 4)],
    # Multistep on the noise, a polynomial in lambda or in sigma / alpha. LMS of k-diffusion and diffusers
    # steps to sigma = 0 with its full history, ours with the denoiser alone.
    *[row(ExponentialAdams(n, prediction="noise"), azula, "zEABSampler", order=n) for n in (1, 2, 3, 4)],
    *[
        row(
            ExponentialAdams(n, prediction="noise"),
            diffusers,
            "DEISMultistepScheduler",
            solver_order=n,
            lower_order_final=False,
        )
        for n in (1, 2, 3)
    ],
    *[
        row(ExponentialAdams(n, prediction="noise", variable="rho"), k_diffusion, "sample_lms", order=n)
        for n in (1, 2, 3, 4)
    ],
    *[
        row(ExponentialAdams(n, prediction="noise", variable="rho"), azula, "zABSampler", order=n)
        for n in (2, 4)
    ],
    row(ExponentialAdams(3, prediction="noise", variable="rho"), diffusers, "LMSDiscreteScheduler", order=3),
    row(
        ExponentialAdams(2, prediction="noise", two_point_rule="bh2"),
        diffusers,
        MULTI,
        algorithm_type="dpmsolver",
        **SIGMA_MIN,
    ),
    row(
        ExponentialAdams(2, prediction="noise"),
        diffusers,
        MULTI,
        algorithm_type="dpmsolver",
        solver_type="heun",
        **SIGMA_MIN,
    ),
    row(PNDM(), diffusers, "PNDMScheduler"),  # given halves of steps as ours, in sigma / alpha
    row(IPNDM(), diffusers, "IPNDMScheduler"),
    # On the velocity.
    *[
        row(ExponentialAdams(n, prediction="velocity", variable="u"), azula, "vABSampler", order=n)
        for n in (1, 2, 3, 4)
    ],
    # SDE forms on the noise.
    row(SDEDPMSolver(1), azula, "ItoSampler"),
    row(ExponentialAdams(1, prediction="noise", tau=0.5), azula, "ItoSampler", eta=0.5),
    row(SDEDPMSolver(1), diffusers, MULTI, algorithm_type="sde-dpmsolver", solver_order=1, **SIGMA_MIN),
    row(SDEDPMSolver(2), diffusers, MULTI, algorithm_type="sde-dpmsolver", **SIGMA_MIN),
    # Predictors and correctors.
    *[
        row(
            ExponentialAdams(n, n + 1, two_point_rule=b),
            diffusers,
            UNIPC,
            solver_order=n,
            solver_type=b,
            **SIGMA_MIN,
        )
        for n in (1, 2, 3, 5)
        for b in ("bh1", "bh2")
    ],
    *[
        row(
            ExponentialAdams(n, n + 1, "noise", two_point_rule="bh1"),
            diffusers,
            UNIPC,
            solver_order=n,
            solver_type="bh1",
            predict_x0=False,
            **SIGMA_MIN,
        )
        for n in (2, 3)
    ],
    *[sa(p, c, tau, "data") for p, c in ((1, 1), (2, 2), (3, 4)) for tau in (0.0, 1.0)],
    # Its closed forms are differences of powers of lambda, which cost ten digits at large steps.
    *[sa(p, c, 1.0, "noise", tolerance=1e-5) for p, c in ((1, 2), (3, 4))],
]


@pytest.mark.parametrize(("solver", "peer", "clean", "tolerance"), ROWS)
def test_the_same_method(solver: Solver, peer: Make, clean: tuple[bool, ...], tolerance: float) -> None:
    """On uneven steps, and where neither alpha nor alpha^2 + sigma^2 is 1."""
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
    ours = integrate(Plan.make(solver, sde, 6), mixture, x)
    torch.testing.assert_close(theirs(mixture, levels, x, draws), ours, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("nfe", [7, 8, 9, 12])
def test_dpm_solver_fast_is_k_diffusions(nfe: int) -> None:
    """Their steps of order 3, 2 and 1 are equally long in lambda; ours, given a grid of those, agree.

    At 3 K calls they end with 2, 1; at 3 K + 1 and + 2 with that rest.
    """
    theirs = made(partial(k_diffusion, "sample_dpm_fast", n=nfe))
    sde = SDES["edm"]
    rest = {0: [2, 1], 1: [1], 2: [2]}[nfe % 3]
    orders = [3] * ((nfe - sum(rest)) // 3) + rest
    ends = [-level.lam for level in Grid.build(sde, len(orders), UniformLambda()).levels]
    parts = [
        a + (b - a) * i / order
        for (a, b), order in zip(pairwise(ends), orders, strict=True)
        for i in range(order)
    ]
    times = [sde.t_max, *(math.exp(part) for part in parts[1:]), sde.t_min]
    plan = Plan.make(DPMFast(), sde, nfe, AtTimes(times))
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
    """With the same noise. They draw in every step, we where there is any; we raise no level above t_max."""
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
    """k-diffusion 0.1.1.post1, ``sample_dpmpp_sde``, draws two increments of a path in sigma; we carry the
    first on as the SDE does. Given our pairs of draws the two agree."""
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
    """The step with k left, itself included, is predicted with k outputs, and corrected with k + 1."""
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
    """float32 throughout, as their users run them: 12 steps of roundings of 6e-8, of which the denoiser, and
    exp(-h) - 1 in the weights, make some hundred times more."""
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


# Faults, each with its cause. An order is that of the errors at 40 and 80 steps, equal in lambda.


def peer_order(peer: Peer, sde: str = "vp", steps: int = 40) -> float:
    x, exact = reference(sde)
    errors = [
        (peer(mixture, Grid.build(SDES[sde], n, UniformLambda()).levels, x[:, None], draws)[:, 0] - exact)
        .abs()
        .mean()
        .item()
        for n in (steps, 2 * steps)
    ]
    return math.log2(errors[0] / errors[1])


def as_peer(solver: Solver, sde: str = "vp") -> Peer:
    """Our solver, on the same levels."""

    def run(denoise: Any, levels: Any, x: torch.Tensor, noise: Any) -> torch.Tensor:
        return integrate(Plan.make(solver, SDES[sde], len(levels) - 1), denoise, x, noise)

    return run


def our_order(solver: Solver, sde: str = "vp", steps: int = 40) -> float:
    return peer_order(as_peer(solver, sde), sde, steps)


def law_of(peer: Peer, denoise: Any, levels: Any) -> tuple[float, float]:
    """Mean and deviation of what a peer ends with, exactly, for a denoiser linear in x: the state is a column
    of coefficients over 1, the noise of the start, and every draw."""
    basis = torch.eye(2 + 2 * len(levels), dtype=torch.float64)[:, :, None]
    x = MEAN * levels[0].alpha * basis[0] + spread(levels[0]) * basis[1]
    end = peer(lambda x, level: denoise(x, level, basis[0]), levels, x, lambda i: basis[2 + i])
    return end[0].item(), end[1:].norm().item()


def peer_frechet(peer: Peer, steps: int) -> float:
    levels = Grid.build(SDES["vp"], steps, UniformLambda()).levels
    mean, std = law_of(peer, gaussian, levels)
    return math.hypot(mean - levels[-1].alpha * MEAN, std - spread(levels[-1]))


@pytest.mark.parametrize(
    "peer",
    [
        partial(k_diffusion, "sample_dpmpp_3m_sde", eta=0.0),
        partial(diffusers, MULTI, solver_order=3, **SIGMA_MIN),
    ],
    ids=["k-diffusion", "diffusers"],
)
def test_published_3m_has_order_2(peer: Make) -> None:
    """k-diffusion 0.1.1.post1 ``sample_dpmpp_3m_sde``, diffusers 0.42.1 ``DPMSolverMultistepScheduler``: the
    second difference D2 is half the second derivative, and is weighed as if it were all of it."""
    assert peer_order(made(peer)) < 2.3
    assert our_order(DPMSolverPP(3, published=True)) < 2.3
    assert our_order(DPMSolverPP(3)) > 2.8


def test_third_order_sde_dpmpp_of_diffusers_has_order_1() -> None:
    """diffusers 0.42.1 ``multistep_dpm_solver_third_order_update``: (1 - e^-2h - 2h) / (2h)^2 - 1/2 on D2
    tends to -1 with h, where with + 1/2 it would to 0: a sign."""
    options = {"algorithm_type": "sde-dpmsolver++", **SIGMA_MIN}
    errors = {
        order: [
            peer_frechet(made(partial(diffusers, MULTI, solver_order=order, **options)), n) for n in (40, 80)
        ]
        for order in (2, 3)
    }
    assert math.log2(errors[2][0] / errors[2][1]) > 1.8
    assert math.log2(errors[3][0] / errors[3][1]) < 1.2
    assert errors[3][1] > 10 * errors[2][1]
    ours = [peer_frechet(as_peer(DPMSolverPP(3, 1.0)), n) for n in (40, 80)]
    assert math.log2(ours[0] / ours[1]) > 1.8


def test_third_order_sde_dpm_solver_of_diffusers_crashes() -> None:
    """diffusers 0.42.1, the same function: no branch for ``sde-dpmsolver``."""
    options = {"algorithm_type": "sde-dpmsolver", "solver_order": 3, **SIGMA_MIN}
    theirs = made(partial(diffusers, MULTI, **options))
    levels = Grid.build(SDES["vp"], 5, UniformLambda()).levels
    with pytest.raises(UnboundLocalError):
        theirs(mixture, levels, start(levels[0]), draws)


def shipped(name: str, steps: int, **options: Any) -> torch.Tensor:
    """The end of a run of diffusers on its own grid, for data that is all 1."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, name)(prediction_type="sample", **options)
    scheduler.set_timesteps(steps)
    x = normal(2, 1, 4, 4).float()
    for t in scheduler.timesteps:
        x = scheduler.step(torch.ones_like(x), t, x).prev_sample
    return x


@NUMPY
@pytest.mark.parametrize(
    "options", [{"solver_type": "bh1"}, {"lower_order_final": False}, {"predict_x0": False}]
)
def test_unipc_of_diffusers_is_nan_at_its_default_end(options: dict[str, Any]) -> None:
    """diffusers 0.42.1 ``UniPCMultistepScheduler``: to sigma = 0 h is infinite, B = h too, and the residual's
    weight infinity times 0; only bh2's first order step on the data has a limit there."""
    assert torch.isnan(shipped(UNIPC, 8, **options)).any()
    assert torch.isfinite(shipped(UNIPC, 8)).all()
    plan = Plan.make(ExponentialAdams(2, 3, two_point_rule="bh1"), SDES["vp"], 8, to_clean=True)
    assert torch.isfinite(integrate(plan, mixture, start(plan.start))).all()


@NUMPY
def test_karras_grid_of_diffusers_ends_with_an_empty_step() -> None:
    """diffusers 0.42.1 ``set_timesteps`` with ``sigma_min``: the grid ends at sigma_min already, and it is
    appended once more; h = 0, and exp(-h) - 1 over h is nan."""
    options = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "lower_order_final": False}
    assert torch.isfinite(shipped(MULTI, 20, **options)).all()
    assert torch.isnan(shipped(MULTI, 20, solver_type="heun", **options)).any()
    assert torch.isnan(shipped(MULTI, 20, solver_order=3, **options)).any()


@NUMPY
def test_exponential_grid_of_diffusers_tells_the_network_another_time() -> None:
    """diffusers 0.42.1: times of ``use_exponential_sigmas`` are cut to integers, up to a whole step off."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, MULTI)(use_exponential_sigmas=True)
    scheduler.set_timesteps(20)
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().log().numpy()
    exact = [scheduler._sigma_to_t(sigma.numpy(), ratios).item() for sigma in scheduler.sigmas[:-1]]
    assert max(t - told for t, told in zip(exact, scheduler.timesteps.tolist(), strict=True)) > 0.7


def test_deis_of_diffusers_loses_its_digits_in_small_steps() -> None:
    """diffusers 0.42.1 ``multistep_deis_third_order_update``: closed forms of log sigma, whose differences
    float32 does not hold where steps are small: 6 of 1,000 come out a hundred times worse than 6 of 12."""
    theirs = made(partial(diffusers, "DEISMultistepScheduler", solver_order=3, lower_order_final=False))
    wrong = []
    for n in (12, 1000):
        levels = Grid.build(SDES["vp"], n, UniformLambda()).levels[:7]
        x = start(levels[0])
        ends = [theirs(mixture, levels, x.to(dtype), draws) for dtype in (torch.float32, torch.float64)]
        wrong.append((ends[0] - ends[1]).abs().max().item())
    assert wrong[0] < 1e-5
    assert wrong[1] > 1e-3


def test_dynamic_thresholding_of_diffusers_clamps() -> None:
    """diffusers 0.42.1 ``_threshold_sample``: the percentile is itself clamped to ``sample_max_value``, 1 by
    default, so that nothing is ever divided."""
    module = pytest.importorskip("diffusers")
    x = 3 * normal(2, 1, 8, 8)
    torch.testing.assert_close(
        getattr(module, MULTI)(thresholding=True)._threshold_sample(x), x.clamp(-1, 1), rtol=0, atol=0
    )


def test_churn_of_diffusers_is_not_algorithm_2() -> None:
    """diffusers 0.42.1 ``EulerDiscreteScheduler.step``: noise is added after the network was called, so that
    the step takes the added noise for data. All data is 1, and the last step is to clean: anything else is
    error."""
    levels = Grid.build(SDES["edm"], 12, Karras(), to_clean=True).levels

    def point(x: torch.Tensor, level: Level[float], one: torch.Tensor) -> torch.Tensor:
        return one

    theirs = made(partial(diffusers, "EulerDiscreteScheduler", s_churn=4.0))
    assert law_of(theirs, point, levels)[1] > 1e-3
    right = made(partial(k_diffusion, "sample_euler", s_churn=4.0))
    assert law_of(right, point, levels) == pytest.approx((1.0, 0.0), abs=1e-12)


def test_laplace_schedule_of_diffusers_is_a_root() -> None:
    """diffusers 0.42.1 ``betas_for_alpha_bar``: "laplace" returns sqrt(snr / (1 + snr)), alpha, where the
    others return its square."""
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    n = 1000
    alpha_bar = (1 - module.betas_for_alpha_bar(n, alpha_transform_type="laplace").double()).cumprod(0)

    def snr(t: float) -> float:
        return math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6))

    squared = [snr((i + 1) / n) / (1 + snr((i + 1) / n)) * (1 + snr(0)) / snr(0) for i in range(n // 2)]
    # 500 products of betas rounded to float32
    torch.testing.assert_close(alpha_bar[: n // 2] ** 2, torch.tensor(squared).double(), rtol=1e-3, atol=0)


@NUMPY
def test_learned_variance_of_diffusers_is_for_three_channels() -> None:
    """diffusers 0.42.1 ``convert_model_output``: ``model_output[:, :3]``, whatever the sample's channels."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, MULTI)(variance_type="learned")
    scheduler.set_timesteps(5)
    with pytest.raises(RuntimeError, match="size of tensor"):
        scheduler.step(torch.ones(1, 8, 2, 2), scheduler.timesteps[0], torch.ones(1, 4, 2, 2))


def test_ddim_of_diffusers_clips_by_default() -> None:
    """diffusers 0.42.1 ``DDIMScheduler``: ``clip_sample=True``, and the noise is not made to fit. The mixture
    reaches beyond 1."""
    levels = Grid.build(SDES["vp"], 12, Karras()).levels
    x = start(levels[0])
    plain, clipped = (
        made(partial(diffusers, "DDIMScheduler", **options))(mixture, levels, x, draws)
        for options in ({"clip_sample": False}, {})
    )
    assert (plain - clipped).abs().max() > 0.05


@pytest.mark.parametrize("name", ["sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"])
def test_one_step_to_clean_crashes_in_k_diffusion(name: str) -> None:
    """k-diffusion 0.1.1.post1: the step to sigma = 0 does not set ``h``, which the next line reads."""
    theirs = made(partial(k_diffusion, name))
    levels = [Level(1.0, 1.0, 1.0, 0.0), Level(0.0, 1.0, 0.0, math.inf)]
    with pytest.raises(UnboundLocalError):
        theirs(mixture, levels, start(levels[0]), draws)


def test_adaptive_dpm_solver_of_k_diffusion_couples_its_batch() -> None:
    """k-diffusion 0.1.1.post1 ``dpm_solver_adaptive``: one norm over all samples, so that many easy ones hide
    the error of one that is not."""
    theirs = made(partial(k_diffusion, "sample_dpm_adaptive"))
    levels = [Level(10.0, 1.0, 10.0, -math.log(10.0)), Level(0.01, 1.0, 0.01, -math.log(0.01))]
    x = start(levels[0])
    together = theirs(mixture, levels, x, draws)
    alone = torch.cat([theirs(mixture, levels, one[None], lambda i: torch.zeros(1)) for one in x])
    assert (together - alone).abs().max() > 1e-3


@pytest.mark.parametrize("n", [2, 3])
def test_reab_of_azula_has_order_1(n: int) -> None:
    """azula 0.11.1 ``REABSampler``: sqrt(alpha_s^2 + sigma_t^2) before the integral, sigma_s by its own
    docstring."""
    assert peer_order(made(partial(azula, "REABSampler", order=n))) < 1.2


def test_eta_of_azula_is_a_share_of_the_variance() -> None:
    """azula 0.11.1 ``DDIMSampler``: eta tau is the variance's share, eta^2 tau in the paper (eq. 16)."""
    sde = SDES["vp"]
    levels = Grid.build(sde, 12, Karras()).levels
    x = start(levels[0])
    theirs = made(partial(azula, "DDIMSampler", eta=0.5))(mixture, levels, x, draws)
    paper, root = (
        integrate(Plan.make(DDIM(eta), sde, 12, Karras()), mixture, x, draws) for eta in (0.5, 0.5**0.5)
    )
    torch.testing.assert_close(theirs, root, rtol=SAME, atol=SAME)
    assert (theirs - paper).abs().max() > 0.01


@pytest.mark.parametrize(
    "peer",
    [partial(azula, "xEABSampler", order=4), partial(k_diffusion, "sample_lms", order=4)],
    ids=["azula", "k-diffusion"],
)
def test_a_first_step_of_order_1_caps_the_order_at_2(peer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """azula 0.11.1, k-diffusion 0.1.1.post1: their multistep methods begin with Euler. From pure noise that
    is hardly seen, as nothing is known of the data there; from sigma = alpha on it is all there is."""
    monkeypatch.setitem(SDES, "half", RectifiedFlow(1e-2, 0.5))
    reference.cache_clear()
    assert peer_order(made(peer), "half", 20) < 2.3
    assert our_order(ExponentialAdams(4), "half", 20) < 2.3
    assert our_order(ExponentialAdams(4, start="iterated"), "half", 20) > 3.7
