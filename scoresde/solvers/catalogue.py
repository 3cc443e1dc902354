"""Solvers by name.

The docstring of a solver gives the range of each argument; a value outside it is a ValueError.
"""

from collections.abc import Mapping

from ..plans.tape import Solver
from ..registry import build
from .adams import ExponentialAdams
from .auto import VELOCITY, Auto
from .dpm import DPMFast, DPMSolver
from .dpm_v3 import DPMSolverV3
from .dpmpp import DPMSolverPP
from .empirical_statistics import Statistics
from .er_sde import ERSDE
from .first_order import DDIM, EulerMaruyama, ReverseDiffusion
from .integrators.adaptive import AdaptiveSDE, DPMAdaptive
from .integrators.base import Integrator
from .integrators.ode import ODE
from .integrators.parallel import Parallel
from .integrators.reverse_sde import TorchSDE
from .integrators.solve_ivp import SciPy
from .langevin import PredictorCorrector
from .pndm import IPNDM, PNDM
from .runge_kutta import ExponentialRK4, Heun, Midpoint, RungeKutta4
from .seeds import SEEDS
from .stochastic import SRA, DPMSolverPPSDE, SDEDPMSolver
from .unic import UniC
from .wrappers import Churn, Restart

SOLVERS: Mapping[str, Solver | Integrator] = {
    # the probability-flow ODE, singlestep
    "euler": EulerMaruyama(eta=0.0),
    "ddim": DDIM(),
    "heun": Heun(),
    "midpoint": Midpoint(),
    "rk4": RungeKutta4(),
    "exp-rk4": ExponentialRK4(),
    "dpm1": DPMSolver(1),
    "dpm2": DPMSolver(2),
    "dpm3": DPMSolver(3),
    "dpm2-taylor": DPMSolver(2, form="taylor"),
    "dpm3-taylor": DPMSolver(3, form="taylor"),
    "dpmpp-2s": DPMSolver(2, prediction="data"),
    "dpmpp-3s": DPMSolver(3, prediction="data"),
    "dpm-fast": DPMFast(),
    # the same, multistep
    "dpmpp-2m": DPMSolverPP(2),
    "dpmpp-2m-heun": DPMSolverPP(2, form="heun"),
    "dpmpp-3m": DPMSolverPP(3),
    "dpmpp-3m-published": DPMSolverPP(3, published=True),
    "adams": ExponentialAdams(4),
    "deis": ExponentialAdams(3, prediction="noise"),
    "deis-rho": ExponentialAdams(3, prediction="noise", variable="rho"),
    "deis-t": ExponentialAdams(3, prediction="noise", variable="t"),
    "lms": ExponentialAdams(4, prediction="noise", variable="rho"),
    "velocity-adams": ExponentialAdams(3, prediction="velocity", variable="u"),
    **VELOCITY,
    "auto": Auto(),
    "ipndm": IPNDM(),
    "ipndm-v": ExponentialAdams(4, prediction="noise", variable="rho"),
    "pndm": PNDM(),
    "unipc": ExponentialAdams(3, corrector=4, two_point_rule="bh2"),
    "unipc-bh1": ExponentialAdams(3, corrector=4, two_point_rule="bh1"),
    "unipc-noise": ExponentialAdams(3, corrector=4, prediction="noise", two_point_rule="bh2"),
    "unic": UniC(),
    "dpm-solver-v3": DPMSolverV3(),
    # the reverse SDE
    "em": EulerMaruyama(),
    "reverse-diffusion": ReverseDiffusion(),
    "ancestral": DDIM(eta=1.0),
    "exponential-em": DPMSolverPP(1, eta=1.0),
    "pc": PredictorCorrector(),
    "dpmpp-sde": DPMSolverPPSDE(),
    "dpmpp-2m-sde": DPMSolverPP(2, eta=1.0),
    "dpmpp-3m-sde": DPMSolverPP(3, eta=1.0),
    "dpmpp-3m-sde-published": DPMSolverPP(3, eta=1.0, published=True),
    "sa-solver": ExponentialAdams(2, corrector=2, tau=1.0),
    "sa-solver-published": ExponentialAdams(2, corrector=2, tau=1.0, two_point_rule="bh1"),
    "sde-dpm-1": SDEDPMSolver(1),
    "sde-dpm-2m": SDEDPMSolver(2),
    "seeds-1": SEEDS(1),
    "seeds-2": SEEDS(2),
    "seeds-3": SEEDS(3),
    "er-sde-1": ERSDE(1),
    "er-sde-2": ERSDE(2),
    "er-sde-3": ERSDE(3),
    "sra": SRA(),
    "churn": Churn(),
    "restart": Restart(),
    # integrators
    "ode": ODE("midpoint"),
    "scipy": SciPy(),
    "torchsde": TorchSDE(),
    "dpm-adaptive-12": DPMAdaptive(2),
    "dpm-adaptive-23": DPMAdaptive(3),
    "adaptive-em": AdaptiveSDE(),
    "parallel": Parallel(),
}


def solver_of(spec: str) -> Solver | Integrator:
    """A solver by its name and options.

    Examples: ``"ddim:eta=0.5"``, ``"ode:method=dopri5,rtol=1e-3"``, ``"churn:solver=dpm2"``,
    ``"dpm-solver-v3:statistics=FILE"``.

    Raises:
        ValueError: an unknown name or option, or a value outside its range.
    """
    solver: Solver | Integrator = build(
        "solver", SOLVERS, spec, {Solver: solver_of, Statistics: Statistics.load}
    )
    return solver
