"""Score-based SDE and ODE solvers for diffusion models."""

from . import denoiser as predict  # predict.noise, predict.v, ...: data and noise are modules here, too
from .denoiser import Denoiser
from .discrete import DiscreteVPSDE
from .exact import ExactDenoiser, Mixture
from .grid import Grid
from .noise import Noise
from .plan import Plan, Tape, Vector, integrate, iterate
from .sampling import (
    Counted,
    ddim_sampler,
    dpm_sampler,
    em_sampler,
    ode_sampler,
    pc_sampler,
    prepare,
    sample,
)
from .sde import CLEAN, EDM, SDE, VESDE, VPSDE, Cosine, Level, RectifiedFlow, SubVPSDE
from .solvers import SOLVERS, solver_of
from .spacings import default_spacing, karras, listed, quadratic_time, uniform_lam, uniform_time

__all__ = [
    "CLEAN",
    "EDM",
    "SDE",
    "SOLVERS",
    "VESDE",
    "VPSDE",
    "Cosine",
    "Counted",
    "Denoiser",
    "DiscreteVPSDE",
    "ExactDenoiser",
    "Grid",
    "Level",
    "Mixture",
    "Noise",
    "Plan",
    "RectifiedFlow",
    "SubVPSDE",
    "Tape",
    "Vector",
    "ddim_sampler",
    "default_spacing",
    "dpm_sampler",
    "em_sampler",
    "integrate",
    "iterate",
    "karras",
    "listed",
    "ode_sampler",
    "pc_sampler",
    "predict",
    "prepare",
    "quadratic_time",
    "sample",
    "solver_of",
    "uniform_lam",
    "uniform_time",
]
