"""Solvers: each a short program that writes a table, or an integrator that runs its own loop."""

from .adams import ExponentialAdams
from .auto import Auto
from .catalogue import SOLVERS, solver_of
from .dpm import DPMFast, DPMSolver
from .dpm_v3 import DPMSolverV3
from .dpmpp import DPMSolverPP
from .empirical_statistics import Statistics
from .er_sde import ERSDE
from .first_order import DDIM, EulerMaruyama, ReverseDiffusion
from .integrators.adaptive import AdaptiveSDE, DPMAdaptive
from .integrators.ode import ODE
from .integrators.parallel import Parallel
from .integrators.reverse_sde import TorchSDE
from .integrators.solve_ivp import SciPy
from .integrators.tilted import Tilted
from .integrators.twisted_smc import TwistedSMC
from .langevin import PredictorCorrector
from .pndm import IPNDM, PNDM
from .runge_kutta import ExponentialRK4, Heun, Midpoint, RungeKutta4
from .seeds import SEEDS
from .stochastic import SRA, DPMSolverPPSDE, SDEDPMSolver
from .unic import UniC
from .wrappers import AnalyticalFirstStep, Churn, Restart

__all__ = [
    "DDIM",
    "ERSDE",
    "IPNDM",
    "ODE",
    "PNDM",
    "SEEDS",
    "SOLVERS",
    "SRA",
    "AdaptiveSDE",
    "AnalyticalFirstStep",
    "Auto",
    "Churn",
    "DPMAdaptive",
    "DPMFast",
    "DPMSolver",
    "DPMSolverPP",
    "DPMSolverPPSDE",
    "DPMSolverV3",
    "EulerMaruyama",
    "ExponentialAdams",
    "ExponentialRK4",
    "Heun",
    "Midpoint",
    "Parallel",
    "PredictorCorrector",
    "Restart",
    "ReverseDiffusion",
    "RungeKutta4",
    "SDEDPMSolver",
    "SciPy",
    "Statistics",
    "Tilted",
    "TorchSDE",
    "TwistedSMC",
    "UniC",
    "solver_of",
]
