"""Solvers and the samplers of other projects with the same method.

The code of each peer runs in our float64, on our levels, with our noise and the exact denoiser of the mixture
(``benchmarks/peers.py``), so only the method can differ. ``requirements-peers.lock`` has the versions.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from peers import Peer, azula, diffusers, k_diffusion

from scoresde import Level
from scoresde.plans.tape import Solver
from scoresde.solvers.adams import ExponentialAdams
from scoresde.solvers.dpm import DPMSolver
from scoresde.solvers.dpmpp import DPMSolverPP
from scoresde.solvers.first_order import DDIM
from scoresde.solvers.pndm import IPNDM, PNDM
from scoresde.solvers.runge_kutta import Heun
from scoresde.solvers.stochastic import DPMSolverPPSDE, SDEDPMSolver
from tests.problems import normal

# Some hundred roundings of numbers below 10; the measured difference is 1e-14.
SAME = 1e-12
SIGMA_MIN = {"final_sigmas_type": "sigma_min", "lower_order_final": False}
MULTI, SINGLE, UNIPC = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
)
NUMPY = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy functions on tensors
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
    given = ",".join(f"{key}={value}" for key, value in options.items() if not callable(value))
    peer = partial(project, name, **options)
    return pytest.param(ours, peer, clean, tolerance, id=f"{project.__name__}.{name}({given})")


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
    # draws none in its last step; ours draws none only in a step to clean.
    row(DDIM(1.0), k_diffusion, "sample_euler_ancestral", clean=BOTH),
    row(DDIM(0.5), k_diffusion, "sample_euler_ancestral", eta=0.5, clean=BOTH),
    row(DDIM(1.0), azula, "DDPMSampler", clean=BOTH),
    row(DDIM(0.5), azula, "DDIMSampler", eta=0.25, clean=BOTH),  # eta is a share of the variance in azula
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
    # Multistep on the data. The 3M of the peers begins with the heun form of 2M.
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
    row(PNDM(), diffusers, "PNDMScheduler"),  # its half steps are ours, in sigma / alpha
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
    # Its closed forms are differences of powers of lambda, which lose ten digits at large steps.
    *[sa(p, c, 1.0, "noise", tolerance=1e-5) for p, c in ((1, 2), (3, 4))],
]
