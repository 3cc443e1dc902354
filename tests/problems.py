"""Shared by the tests: processes, problems with solutions in closed form, and the exact law of a run."""

import math
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from scoresde import (
    EDM,
    SDE,
    SOLVERS,
    VESDE,
    VPSDE,
    Cosine,
    DiscreteVPSDE,
    Level,
    Plan,
    RectifiedFlow,
    SubVPSDE,
    integrate,
)
from scoresde.plans.tape import Solver, Tape
from scoresde.plans.vector import Vector
from scoresde.solvers.integrators.base import Integration, Integrator
from scoresde.solvers.integrators.ode import ODE
from scoresde.solvers.integrators.per_sample import PerSampleIntegrator
from scoresde.solvers.integrators.reverse_sde import TorchSDE
from scoresde.solvers.integrators.solve_ivp import SciPy
from scoresde.spacings import Grid

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))  # in a process without pytest

import known

SDES = known.SDES

# The two kinds of solvers: those that write a table, and those that run their own loop.
TABLES: dict[str, Solver] = {name: s for name, s in SOLVERS.items() if not isinstance(s, Integrator)}
BLACK_BOXES = {name: s for name, s in SOLVERS.items() if isinstance(s, Integrator)}
STOCHASTIC = [name for name, s in TABLES.items() if Plan.make(s, VPSDE(), 2).stochastic]
DETERMINISTIC = [name for name in TABLES if name not in STOCHASTIC]
# The solvers with their own loop: COUNTED know the number of calls before the run, TOLERANT stop at a
# tolerance. COUPLED have one error for the whole batch, so a sample depends on the others of its batch.
COUNTED = [name for name, s in BLACK_BOXES.items() if isinstance(s, ODE | TorchSDE)]
TOLERANT = [name for name, s in BLACK_BOXES.items() if isinstance(s, PerSampleIntegrator | SciPy)]
COUPLED = ["scipy", "parallel"]
ALONE = [name for name in SOLVERS if name not in COUPLED]


def calls(name: str, nfe: int) -> int | None:
    """``nfe``, or the minimum of the solver if it needs more; None for a solver that stops at a tolerance."""
    if name in TOLERANT:
        return None
    return max(nfe, Plan.make(TABLES[name], VPSDE(), 2).nfe) if name in TABLES else nfe


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


# Processes with parameters far beyond the usual ones. Their noisy end keeps some alpha: with alpha = 1e-70
# the data would be lost in rounding.
sdes: st.SearchStrategy[SDE] = st.one_of(
    st.builds(VPSDE, floats(0.0, 1.0), floats(2.0, 40.0), floats(1e-5, 0.1)),
    st.builds(SubVPSDE, floats(0.01, 1.0), floats(2.0, 25.0), floats(1e-3, 0.1)),
    st.builds(VESDE, floats(1e-4, 0.1), floats(1.0, 500.0)),
    st.builds(Cosine, floats(1e-4, 0.1), floats(0.9, 0.9999)),
    st.builds(EDM, floats(1e-4, 0.1), floats(1.0, 500.0)),
    st.builds(RectifiedFlow, floats(1e-4, 0.1), floats(0.9, 0.9999)),
    st.builds(
        DiscreteVPSDE,
        beta_max=floats(0.005, 0.05),
        schedule=st.sampled_from(["linear", "scaled-linear", "cosine"]),
    ),
)


class Infinite:
    """A solver without a first step where alpha = 0: the noise at level s in units of alpha_t."""

    order = 1

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        for t, s in grid.steps():
            x = tape.state(s.alpha / t.alpha * x + 0 * tape.denoise(x, t))
        return x


def point_mass(x: Any, level: Level[float], one: Any) -> Any:
    """E[x_0 | x_t] where all data is the number 1."""
    return one


MEAN, STD = 0.7, 0.5


def gaussian(x: Any, level: Level[float], one: Any = 1.0) -> Any:
    """E[x_0 | x_t] of N(MEAN, STD^2): linear in x."""
    var = (level.alpha * STD) ** 2 + level.sigma**2
    return STD**2 * level.alpha / var * x + level.sigma**2 * MEAN / var * one


def spread(level: Level[float]) -> float:
    """The deviation of that data at a noise level."""
    return math.hypot(level.alpha * STD, level.sigma)


def law(
    run: Plan | Integration, denoise: Callable[[Any, Level[float], Any], Any], mean: float, std: float
) -> tuple[float, float]:
    """The exact mean and deviation at the end of a run from N(mean, std^2), for a denoiser linear in x.

    The real executor runs on a vector of coefficients: of 1, of the noise at the start, and of every draw.
    """
    if isinstance(run, Plan):
        unit = np.eye(2 + run.draws)
        end = integrate(
            run,
            lambda x, level: denoise(x, level, unit[0]),
            mean * unit[0] + std * unit[1],
            lambda i: unit[2 + i],
        )
    else:
        # No integrator draws more than twice a step.
        rows = torch.eye(2 + 2 * (run.nfe or 1), dtype=torch.float64)[:, None]
        end = run.integrate(
            lambda x, level: denoise(x, level, rows[0]), mean * rows[0] + std * rows[1], lambda i: rows[2 + i]
        )[0].numpy()
    return float(end[0]), float(np.linalg.norm(end[1:]))


def frechet(run: Plan | Integration) -> float:
    """The Frechet distance between the law at the end of a run and the exact law, for data N(MEAN, STD^2)."""
    mean, std = law(run, gaussian, run.start.alpha * MEAN, spread(run.start))
    return math.hypot(mean - run.end.alpha * MEAN, std - spread(run.end))


MEANS, STDS, SHARES = map(torch.from_numpy, (known.MEANS, known.STDS, known.SHARES))


def mixture(x: Tensor, level: Level[float]) -> Tensor:
    """``known.mixture`` for tensors: x of any shape, result in the type of x."""
    means, stds, shares = MEANS.to(x), STDS.to(x), SHARES.to(x)
    var = (level.alpha * stds) ** 2 + level.sigma**2
    away = x[..., None] - level.alpha * means
    likely = (shares.log() - 0.5 * away**2 / var - 0.5 * var.log()).softmax(-1)
    return (likely * (means + stds**2 * level.alpha / var * away)).sum(-1)


@cache
def reference(name: str) -> tuple[Tensor, Tensor]:
    """States at the start of a process and at the end of the probability-flow ODE, to 1e-12."""
    x, exact, _ = known.reference(name)
    return torch.from_numpy(x), torch.from_numpy(exact)


def sde_ends(sde: SDE) -> tuple[Level[float], Level[float]]:
    start, end = (
        Level(*torch.stack(sde.level(torch.tensor(t, dtype=torch.float64))).tolist())
        for t in (sde.t_max, sde.t_min)
    )
    return start, end


class Net(torch.nn.Module):
    """A network of one weight. It counts its calls; each output depends on one sample only, to the bit."""

    def __init__(self, weight: float = 0.3) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        bent = x * self.weight.to(x.dtype) / (1 + x * x)
        return bent if cond is None else bent + cond.to(x.dtype).reshape(len(x), *[1] * (x.ndim - 1))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
