"""The library's methods for a posterior: each makes draws for many observations in one batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from kept import digest, plan_key
from posterior_problems import Problem
from posterior_truth import Truth
from torch import Tensor

from scoresde.conditioning import Cost, Gaussian, Isotropic, Jacobian, Observed, Posterior, cost_of, peers
from scoresde.conditioning.covariances import Covariance
from scoresde.conditioning.operators import Matrix
from scoresde.denoisers.exact import ExactDenoiser, ExactPosterior
from scoresde.denoisers.protocol import DenoiserLike
from scoresde.plans.plan import Plan
from scoresde.processes.continuous import EDM
from scoresde.sampling.prepare import prepare
from scoresde.sampling.sample import sample
from scoresde.solvers.integrators.base import Integration
from scoresde.solvers.integrators.twisted_smc import TwistedSMC
from scoresde.spacings import Karras

SDE = EDM()
SOLVER, NFE = "dpmpp-2m-sde", 50
PARTICLES_NFE = 101
BATCH = 1024  # draws at a time: what a processor's cache holds
END = SDE.level_at(SDE.t_min)


@dataclass(frozen=True)
class Task:
    """Draws of the posterior of each observation.

    Args:
        problem: the prior and the matrix.
        tau: the deviation of the observations' noise.
        y: the observations, ``(B, m)``.
        draws: how many of each posterior.
        seed: of the noise.
    """

    problem: Problem
    tau: float
    y: Tensor
    draws: int
    seed: int

    @property
    def rows(self) -> Tensor:
        """The observation of each draw, ``(B draws, m)``."""
        return self.y.repeat_interleave(self.draws, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.y) * self.draws, self.problem.matrix.shape[1]

    @property
    def denoiser(self) -> ExactDenoiser:
        """That of the prior."""
        return ExactDenoiser(self.problem.prior, SDE)

    @property
    def observed(self) -> Observed:
        """The observation without y, which travels in the condition."""
        return Observed(Matrix(self.problem.matrix), None, self.tau)


class Drawn(NamedTuple):
    """Draws ``(B draws, D)``, and what each cost."""

    x: Tensor
    cost: Cost


def _any(problem: Problem) -> bool:
    return True


@dataclass(frozen=True)
class Method:
    """A way to draw posteriors.

    Args:
        draw: from a task.
        key: changes with what it computes.
        fits: whether a problem is for it.
        group: draws of an observation are a multiple of it.
        seeds: it runs on no more than so many; methods for comparison run on one.
    """

    draw: Callable[[Task], Drawn]
    key: str = ""
    fits: Callable[[Problem], bool] = _any
    group: int = 1
    seeds: float = math.inf


def by_path(
    make: Callable[[Task], DenoiserLike], nfe: int = NFE, fits: Callable[[Problem], bool] = _any
) -> Method:
    """A run of the solver with a posterior's estimate; the condition is y, or the pair (None, y)."""
    plan = prepare(SOLVER, SDE, nfe, Karras())
    assert isinstance(plan, Plan)

    def draw(task: Task) -> Drawn:
        denoiser = make(task)
        cond = task.rows if isinstance(denoiser, ExactPosterior) else (None, task.rows)
        return Drawn(_drawn(denoiser, plan, task, cond), cost_of(denoiser, plan))

    return Method(draw, plan_key(plan), fits)


def _drawn(denoiser: DenoiserLike, run: Plan | Integration, task: Task, cond: Any) -> Tensor:
    """The samples of a run in float64."""
    return sample(denoiser, run, task.shape, seed=task.seed, cond=cond, dtype=torch.float64, batch_size=BATCH)


def by_particles(covariance: Callable[[Problem], Covariance], particles: int) -> Method:
    """Twisted particles in groups."""

    def draw(task: Task) -> Drawn:
        smc = TwistedSMC(task.observed, covariance(task.problem), particles)
        run = prepare(smc, SDE, PARTICLES_NFE, Karras())
        assert isinstance(run, Integration)
        assert run.nfe is not None
        return Drawn(_drawn(task.denoiser, run, task, (None, task.rows)), Cost(run.nfe, 0))

    return Method(draw, digest(f"{particles} particles, {PARTICLES_NFE} calls"), group=particles)


def covariance_of(problem: Problem) -> Gaussian:
    """The covariance of the data."""
    return Gaussian(problem.prior.moments()[1])


def isotropic(problem: Problem) -> Isotropic:
    """That of data of variance 1, whatever the data."""
    return Isotropic()


def _exact(task: Task) -> DenoiserLike:
    return ExactPosterior(task.problem.prior, SDE, task.problem.matrix, task.tau)


def _posterior(covariance: Callable[[Problem], Covariance], task: Task) -> DenoiserLike:
    return Posterior(task.denoiser, task.observed, covariance(task.problem))


def _solved(problem: Problem) -> Jacobian:
    """As many iterations as y has numbers."""
    return Jacobian(len(problem.matrix))


def _compared(name: str) -> Method:
    """A method of the literature, by its name."""

    def make(task: Task) -> DenoiserLike:
        made: DenoiserLike = getattr(peers, name)(task.denoiser, task.observed)
        return made

    return replace(by_path(make), seeds=1)


def _independent(task: Task) -> Drawn:
    truth = Truth(task.problem, task.tau, task.y, END, task.draws)
    return Drawn(truth.exact_draws(task.seed), Cost(0, 0))


def _few(problem: Problem) -> bool:
    """Whether a solved Jacobian is affordable, and differs from three iterations."""
    return 3 < len(problem.matrix) <= 8


FLOOR, EXACT = "exact draws", "exact E[x0|xt,y]"
METHODS: dict[str, Method] = {
    FLOOR: Method(_independent),
    EXACT: by_path(_exact),
    "isotropic": by_path(partial(_posterior, isotropic)),
    "data covariance": by_path(partial(_posterior, covariance_of)),
    "Jacobian, 1": by_path(partial(_posterior, lambda problem: Jacobian(1))),
    "Jacobian, 3": by_path(partial(_posterior, lambda problem: Jacobian(3))),
    "Jacobian, solved": by_path(partial(_posterior, _solved), fits=_few),
    "DDNM, projection": _compared("ddnm"),
    "DiffPIR": _compared("diffpir"),
    "PiGDM, score form": _compared("pigdm"),
    "DPS, score form": _compared("dps"),
    "SMC-16, isotropic": by_particles(isotropic, 16),
    "SMC-64, isotropic": by_particles(isotropic, 64),
    "SMC-16, data covariance": by_particles(covariance_of, 16),
    "SMC-64, data covariance": by_particles(covariance_of, 64),
}
