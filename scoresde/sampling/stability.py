"""A warning, before any call of the network, for a run whose samples will spread far beyond the data."""

import warnings
from typing import cast

import torch
from torch import Tensor

from ..plans.growth import DEVIATIONS, exact_deviation, growth, normal_gain
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.level import Level
from ..solvers.catalogue import SOLVERS
from ..solvers.integrators.base import Integration, Integrator
from ..solvers.integrators.ode import ODE
from ..solvers.integrators.reverse_sde import TorchSDE

LIMIT = 2.0  # the largest growth without a warning
SAMPLES = 400  # where a run is carried out; they tell a deviation to 4 %
LONGEST = 100  # the most calls of a run that is carried out; no method of fixed steps is unstable with more


class InstabilityWarning(UserWarning):
    """A run of so few calls that its samples spread more than twice as far as normal data."""


def warn_if_unstable(
    solver: Solver | Integrator, called: object, run: Plan | Integration, stacklevel: int
) -> None:
    """Warn if a run on normal data ends with more than twice the exact deviation.

    Args:
        solver: the solver of the run.
        called: what the caller named it.
        run: the run, planned within a budget.
        stacklevel: of the warning.
    """
    found = growth_of(solver, run)
    if found is None or found <= LIMIT:
        return
    name = next((name for name, known in SOLVERS.items() if known == solver), called)
    other = "er-sde-3" if run.stochastic else "auto"
    warnings.warn(
        f"{name} is unstable with {run.nfe} network calls on these levels: on normal data of deviations 1/2 "
        f"to 1/10, the deviation of its samples is {found:.2g} times that of the data; use more calls, "
        f"another spacing, or another solver, such as {other}",
        InstabilityWarning,
        stacklevel,
    )


def growth_of(solver: Solver | Integrator, run: Plan | Integration) -> float | None:
    """:func:`growth` of a plan; for a short run of fixed steps without a plan, the same from samples.

    None for any other run: it chooses its steps by a tolerance, or is too long to be tried.
    """
    if isinstance(run, Plan):
        return growth(run)
    fixed = isinstance(solver, ODE | TorchSDE) and run.nfe is not None and run.nfe <= LONGEST
    return _sampled_growth(run) if fixed else None


def _sampled_growth(run: Integration) -> float:
    variances = torch.tensor(DEVIATIONS, dtype=torch.float64, device="cpu").square()
    generator = torch.Generator().manual_seed(0)

    def draw(i: int) -> Tensor:
        return torch.randn(SAMPLES, len(DEVIATIONS), generator=generator, dtype=torch.float64, device="cpu")

    def denoise(x: Tensor, level: Level[float]) -> Tensor:
        return cast(Tensor, normal_gain(level, variances) * x)

    end = run.integrate(denoise, run.start.sigma * draw(0), draw)
    deviation: float = end.square().mean(0).sum().sqrt().item()
    return deviation / exact_deviation(run.end, DEVIATIONS)
