"""The papers of the solvers. Their BibTeX entries are in ``citations.bib``."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ..plans.tape import Solver
from .adams import ExponentialAdams
from .auto import Auto
from .catalogue import solver_of
from .dpm import DPMFast, DPMSolver
from .dpm_v3 import DPMSolverV3
from .dpmpp import DPMSolverPP
from .er_sde import ERSDE
from .first_order import DDIM, EulerMaruyama, ReverseDiffusion
from .integrators.adaptive import AdaptiveSDE, DPMAdaptive
from .integrators.base import Integrator
from .integrators.ode import ODE
from .integrators.parallel import Parallel
from .integrators.reverse_sde import TorchSDE
from .integrators.solve_ivp import SciPy
from .langevin import PredictorCorrector
from .moves import is_table
from .pndm import IPNDM, PNDM
from .runge_kutta import ExponentialRK4, Heun, Midpoint, RungeKutta4
from .seeds import SEEDS
from .stochastic import SRA, DPMSolverPPSDE, SDEDPMSolver
from .unic import UniC
from .wrappers import AnalyticalFirstStep, Churn, Restart


def _of_adams(solver: ExponentialAdams) -> list[str]:
    history = "lu2022dpmsolverpp" if solver.prediction == "data" else "zhang2022fast"
    if solver.tau:
        return ["xue2023sasolver"]
    return ["zhao2023unipc", history] if solver.corrector else [history]


# The labels of a class, or of an instance where they depend on its options.
SOURCES: dict[type, list[str] | Callable[[Any], list[str]]] = {
    AdaptiveSDE: ["jolicoeurmartineau2021gotta"],
    AnalyticalFirstStep: ["dockhorn2022genie"],
    Auto: ["zhao2023unipc", "zhang2022fast"],
    Churn: ["karras2022elucidating"],
    DDIM: lambda solver: ["ho2020denoising", "song2021denoising"] if solver.eta else ["song2021denoising"],
    DPMAdaptive: ["lu2022dpmsolver"],
    DPMFast: ["lu2022dpmsolver", "lu2022dpmsolverpp"],
    DPMSolver: lambda solver: ["lu2022dpmsolver"] if solver.prediction == "noise" else ["lu2022dpmsolverpp"],
    DPMSolverPP: ["lu2022dpmsolverpp"],
    DPMSolverPPSDE: ["crowson2022kdiffusion", "lu2022dpmsolverpp"],
    DPMSolverV3: ["zheng2023dpmsolverv3"],
    ERSDE: ["cui2023elucidating"],
    EulerMaruyama: ["song2021scorebased"],
    ExponentialAdams: _of_adams,
    ExponentialRK4: ["hochbruck2005explicit"],
    Heun: ["karras2022elucidating"],
    IPNDM: ["zhang2022fast"],
    Midpoint: lambda solver: (
        ["karras2022elucidating"] if solver.variable == "rho" else ["crowson2022kdiffusion"]
    ),
    ODE: ["chen2018neural", "liu2023flow"],
    PNDM: ["liu2022pseudo"],
    Parallel: ["shih2023parallel"],
    PredictorCorrector: ["song2021scorebased"],
    Restart: ["xu2023restart"],
    ReverseDiffusion: ["song2021scorebased"],
    RungeKutta4: ["kutta1901beitrag", "liu2022pseudo"],
    SDEDPMSolver: ["lu2022dpmsolverpp"],
    SEEDS: ["gonzalez2023seeds"],
    SRA: ["roessler2010rungekutta"],
    SciPy: ["song2021scorebased", "virtanen2020scipy"],
    TorchSDE: ["li2020scalable"],
    UniC: ["zhao2023unipc"],
}


def labels_of(solver: Solver | Integrator) -> list[str]:
    """The labels of a solver, or else of its base class, then the labels of the solver inside it."""
    found = next((SOURCES[kind] for kind in type(solver).__mro__ if kind in SOURCES), None)
    if found is None:
        raise ValueError(f"solver must be a solver of scoresde, got {solver!r}")
    labels = found(solver) if callable(found) else found
    inside: list[Any] = [getattr(solver, name, None) for name in ("solver", "predictor")]
    more = [label for inner in inside if is_table(inner) for label in labels_of(inner)]
    return list(dict.fromkeys([*labels, *more]))


def citation(solver: str | Solver | Integrator) -> str:
    """The papers of a solver as BibTeX entries: ``print(citation("unipc:predictor=2"))``.

    Args:
        solver: a name, with options or without, or a solver. The papers of a solver inside it follow.

    Raises:
        ValueError: an unknown name or option, or a solver of another library.
    """
    given = solver_of(solver) if isinstance(solver, str) else solver
    return "\n\n".join(entries()[label] for label in labels_of(given))


@cache
def entries() -> dict[str, str]:
    """The entries of ``citations.bib`` by label."""
    text = Path(__file__).with_name("citations.bib").read_text(encoding="utf-8")
    return {re.split("[{,]", entry)[1]: entry.strip() for entry in text.split("\n\n")}
