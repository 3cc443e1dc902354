"""Score-based SDE and ODE solvers for diffusion models."""

from typing import TYPE_CHECKING, Any

from .command import end_imports_in_one_line

end_imports_in_one_line()

from . import predictions as predict  # predict.noise, predict.v, ...: data and noise are modules here, too
from .capture import captured
from .denoiser import Denoiser, Transported
from .discrete import DiscreteVPSDE
from .exact import ExactDenoiser, Mixture
from .grid import Grid
from .noise import Noise
from .normal import NormalFlow
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
from .spacings import (
    align_your_steps,
    beta,
    clipped,
    default_spacing,
    gits,
    joined,
    karras,
    listed,
    listed_lams,
    listed_sigmas,
    polyexponential,
    power_time,
    quadratic_time,
    refined,
    shifted,
    spacing_of,
    uniform_lam,
    uniform_sigma,
    uniform_time,
)
from .statistics import model_statistics

if TYPE_CHECKING:
    from .tuning import tune

__version__ = "0.1.0"  # the only place where it stands

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
    "NormalFlow",
    "Plan",
    "RectifiedFlow",
    "SubVPSDE",
    "Tape",
    "Transported",
    "Vector",
    "align_your_steps",
    "beta",
    "captured",
    "clipped",
    "ddim_sampler",
    "default_spacing",
    "dpm_sampler",
    "em_sampler",
    "gits",
    "integrate",
    "iterate",
    "joined",
    "karras",
    "listed",
    "listed_lams",
    "listed_sigmas",
    "model_statistics",
    "ode_sampler",
    "pc_sampler",
    "polyexponential",
    "power_time",
    "predict",
    "prepare",
    "quadratic_time",
    "refined",
    "sample",
    "shifted",
    "solver_of",
    "spacing_of",
    "tune",
    "uniform_lam",
    "uniform_sigma",
    "uniform_time",
]


def __getattr__(name: str) -> Any:
    """``tune``, loaded when it is first asked for: sampling needs nothing of it."""
    if name == "tune":
        from .tuning import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
