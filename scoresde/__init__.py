"""Score-based SDE and ODE solvers for diffusion models."""

from . import denoiser as predict
from .denoiser import Denoiser, data, edm, noise, score, v, velocity
from .discrete import DiscreteVPSDE
from .exact import ExactDenoiser, Mixture
from .grid import Grid, default_spacing, karras, listed, quadratic_time, uniform_lam, uniform_time
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
