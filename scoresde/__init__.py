"""Score-based SDE and ODE solvers for diffusion models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .command import end_imports_in_one_line

end_imports_in_one_line()

from .conditioning.covariances import Gaussian, Isotropic, Jacobian
from .conditioning.observed import Observed
from .conditioning.operators import Blur, Grey, Known, Matrix, Pool
from .conditioning.posterior import Posterior
from .denoisers import predictions as predict
from .denoisers.exact import ExactDenoiser, ExactPosterior
from .denoisers.full_mixture import FullMixture
from .denoisers.mixture import Mixture
from .denoisers.network import Denoiser
from .denoisers.protocol import Counted
from .denoisers.transported import Transported
from .noise import Noise
from .plans.executor import integrate, iterate
from .plans.plan import Plan
from .plans.tape import Tape
from .processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from .processes.discrete import DiscreteVPSDE
from .processes.level import Level
from .processes.sde import SDE
from .sampling.named import ddim_sampler, dpm_sampler, em_sampler, ode_sampler, pc_sampler
from .sampling.prepare import prepare
from .sampling.sample import sample
from .solvers.catalogue import SOLVERS, solver_of
from .spacings.catalogue import spacing_of
from .spacings.flow_time import FlowTime
from .spacings.formulas import Karras, UniformLambda, UniformTime

if TYPE_CHECKING:
    from .sampling.capture import captured
    from .solvers.citations import citation
    from .tuning.measure_statistics import model_statistics
    from .tuning.tune import tune

__version__ = "0.1.0"  # the only place where it stands

# Loaded when they are first used: sampling needs nothing of them.
LATER = {
    "captured": ".sampling.capture",
    "citation": ".solvers.citations",
    "model_statistics": ".tuning.measure_statistics",
    "tune": ".tuning.tune",
}

__all__ = [
    "EDM",
    "SDE",
    "SOLVERS",
    "VESDE",
    "VPSDE",
    "Blur",
    "Cosine",
    "Counted",
    "Denoiser",
    "DiscreteVPSDE",
    "ExactDenoiser",
    "ExactPosterior",
    "FlowTime",
    "FullMixture",
    "Gaussian",
    "Grey",
    "Isotropic",
    "Jacobian",
    "Karras",
    "Known",
    "Level",
    "Matrix",
    "Mixture",
    "Noise",
    "Observed",
    "Plan",
    "Pool",
    "Posterior",
    "RectifiedFlow",
    "SubVPSDE",
    "Tape",
    "Transported",
    "UniformLambda",
    "UniformTime",
    "captured",
    "citation",
    "ddim_sampler",
    "dpm_sampler",
    "em_sampler",
    "integrate",
    "iterate",
    "model_statistics",
    "ode_sampler",
    "pc_sampler",
    "predict",
    "prepare",
    "sample",
    "solver_of",
    "spacing_of",
    "tune",
]


def __getattr__(name: str) -> Any:
    """A name of ``LATER``, from its module."""
    if name in LATER:
        return getattr(import_module(LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
