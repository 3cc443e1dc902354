"""Solvers by name, the only registry."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from ..blackbox import ODE, TorchSDE
from ..plan import Solver
from ..registry import check_type, lookup, nearest, parse
from .dpm import DPMSolver, DPMSolverPP
from .first_order import DDIM, EulerMaruyama, ReverseDiffusion
from .heun import Heun
from .langevin import PredictorCorrector

__all__ = [
    "DDIM",
    "ODE",
    "SOLVERS",
    "DPMSolver",
    "DPMSolverPP",
    "EulerMaruyama",
    "Heun",
    "PredictorCorrector",
    "ReverseDiffusion",
    "TorchSDE",
    "solver_of",
]

SOLVERS: Mapping[str, Solver | ODE | TorchSDE] = {
    "em": EulerMaruyama(),
    "reverse-diffusion": ReverseDiffusion(),
    "ancestral": DDIM(eta=1.0),
    "pc": PredictorCorrector(),
    "ode": ODE("midpoint"),
    "torchsde": TorchSDE(),
    "ddim": DDIM(),
    "heun": Heun(),
    "dpm1": DPMSolver(1),
    "dpm2": DPMSolver(2),
    "dpm3": DPMSolver(3),
    "dpmpp-2m": DPMSolverPP(2),
    "dpmpp-3m": DPMSolverPP(3),
    "dpmpp-2m-sde": DPMSolverPP(2, eta=1.0),
}


def solver_of(spec: str) -> Solver | ODE | TorchSDE:
    """A solver of the registry, with options if wanted: ``"ddim:eta=0.5"``,
    ``"ode:method=dopri5,rtol=1e-3"``.

    Raises:
        ValueError: an unknown name or option, or a value that the solver does not take.
    """
    name, options = parse(spec)
    solver = lookup("solver", name, SOLVERS)
    known: dict[str, Any] = {field.name: get_type_hints(type(solver))[field.name] for field in fields(solver)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"solver {name!r} has no option {key!r}; {nearest(key, known)}")
        if key == "predictor":
            options[key] = solver_of(str(value))
        else:
            check_type(f"solver {name!r} option {key}", value, known[key])
    return replace(solver, **options) if options else solver  # type: ignore[type-var]
