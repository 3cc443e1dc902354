"""Score-based SDE and ODE solvers for diffusion models."""

from typing import TYPE_CHECKING, Any

from .command import end_imports_in_one_line

end_imports_in_one_line()

from .denoisers import (
    predictions as predict,  # predict.noise, predict.v, ...: data and noise are modules here, too
)
from .denoisers.gaussian import NormalFlow
from .denoisers.mixture import ExactDenoiser, Mixture
from .denoisers.network import Denoiser
from .denoisers.protocol import Counted
from .denoisers.transported import Transported
from .noise import Noise
from .plans.executor import integrate, iterate
from .plans.plan import Plan
from .plans.tape import Tape
from .plans.vector import Vector
from .processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from .processes.discrete import DiscreteVPSDE
from .processes.level import CLEAN, Level
from .processes.sde import SDE
from .sampling.capture import captured
from .sampling.named import ddim_sampler, dpm_sampler, em_sampler, ode_sampler, pc_sampler
from .sampling.prepare import prepare
from .sampling.sample import sample
from .solvers.catalogue import SOLVERS, solver_of
from .spacings.catalogue import (
    align_your_steps,
    clipped,
    joined,
    listed,
    listed_lams,
    listed_sigmas,
    refined,
    shifted,
    spacing_of,
)
from .spacings.formulas import (
    beta,
    default_spacing,
    karras,
    polyexponential,
    power_time,
    quadratic_time,
    uniform_lam,
    uniform_sigma,
    uniform_time,
)
from .spacings.grid import Grid
from .tuning.gits import gits
from .tuning.measure_statistics import model_statistics

if TYPE_CHECKING:
    from .tuning.tune import tune

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
        from .tuning.tune import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
