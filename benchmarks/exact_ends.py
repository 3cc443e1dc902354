"""Mixtures with exact scores: states at the start, the exact ends of their paths, and the errors of samples.

All in float64. The exact end is a converged run, whose own error is the difference from a second one on other
levels. The error of a sample is the distance from its exact end, RMS over the dimensions, over the spread of
the data: the RMS over the dimensions of its standard deviations.
"""

import hashlib
import math
from dataclasses import dataclass, replace

import torch
from problems import LAM_MIN, make_problem
from torch import Tensor

from scoresde.denoisers.exact import ExactDenoiser
from scoresde.noise import Noise
from scoresde.plans.executor import integrate
from scoresde.plans.plan import Plan
from scoresde.processes.catalogue import sde_of
from scoresde.processes.sde import SDE
from scoresde.solvers.auto import VELOCITY
from scoresde.spacings import FlowTime, Spacing, UniformTime

ELSEWHERE = 0.5  # spreads: a sample farther from its exact end is another sample
LOST = 1e6  # the error of a sample that is not finite


@dataclass(frozen=True)
class Paths:
    """Paths of the probability-flow ODE: where runs begin, and where they must end.

    Args:
        problem: of benchmarks/problems.py.
        process: the name of the SDE.
        denoiser: with exact scores.
        x: states at the start, ``(B, D)``.
        exact: the exact ends, ``(B, D)``.
        spread: of the data.
        own_error: RMSE of the exact ends, estimated.
    """

    problem: str
    process: str
    denoiser: ExactDenoiser
    x: Tensor
    exact: Tensor
    spread: float
    own_error: float

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    def figures(self, ends: Tensor) -> dict[str, float]:
        """:func:`figures_of` these ends."""
        return figures_of(ends, self.exact, self.spread)

    def run(self, plan: Plan) -> Tensor:
        """The ends of a plan from ``x``."""
        with torch.no_grad():
            ends: Tensor = integrate(plan, self.denoiser, self.x)
        return ends

    def part(self, every: int) -> "Paths":
        """Each so many-th path."""
        return replace(self, x=self.x[::every], exact=self.exact[::every])

    @property
    def key(self) -> str:
        """A digest of the states at the start."""
        return hashlib.sha256(self.x.numpy().tobytes()).hexdigest()[:16]


def figures_of(ends: Tensor, exact: Tensor, spread: float) -> dict[str, float]:
    """Root mean square and median of the errors of samples, and the share of samples that ended elsewhere."""
    errors = (ends - exact).flatten(1).double().square().mean(1).sqrt() / spread
    errors = torch.where(torch.isfinite(errors), errors.clamp(max=LOST), LOST)
    return {
        "rmse": errors.square().mean().sqrt().item(),
        "median": errors.quantile(0.5).item(),
        "share": (errors > ELSEWHERE).double().mean().item(),
    }


def paths_of(problem: str, process: str, n: int, seed: int, calls: int) -> Paths:
    """The paths from n noises, with converged runs of so many calls.

    A run under the rectified flow begins at its own t = 1, where alpha = 0; other processes are cut to the
    range of sigma / alpha of all problems.
    """
    found, sde = make_problem(problem, process), sde_of(process)
    cut = found.denoiser
    assert isinstance(cut, ExactDenoiser)
    denoiser = cut if math.isfinite(sde.lam_at(sde.t_max)) else ExactDenoiser(cut.mixture, sde)
    sde = denoiser.sde
    x = sde.level_at(sde.t_max).sigma * Noise(seed, torch.arange(n), found.shape)(0).double()
    spread = denoiser.mixture.moments()[1].diagonal().mean().sqrt().item()
    paths = Paths(problem, process, denoiser, x, x, spread, 0.0)
    rest = for_peers(paths)
    exact, other = (
        rest.run(converged(rest.sde, number, spacing))
        for number, spacing in ((calls, FlowTime(1.5, 1.5)), (calls * 7 // 8, FlowTime()))
    )
    return replace(paths, exact=exact, own_error=figures_of(other, exact, spread)["rmse"])


def converged(sde: SDE, calls: int, spacing: Spacing) -> Plan:
    """The plan of a converged run."""
    return Plan.make(VELOCITY["velocity-p5c6"], sde, calls, spacing)


def for_peers(paths: Paths) -> Paths:
    """The same paths for the projects that compute in sigma / alpha: from 80 on, where this is infinite.

    They begin on the exact paths at this level, to which 200 short steps lead, and pay no call for them.
    """
    sde = paths.sde
    if math.isfinite(sde.lam_at(sde.t_max)):
        return paths
    mixture = paths.denoiser.mixture
    first = replace(paths, denoiser=ExactDenoiser(mixture, sde.clip(-math.inf, LAM_MIN)))
    x = first.run(converged(first.sde, 200, UniformTime()))
    return replace(paths, denoiser=ExactDenoiser(mixture, sde.clip(LAM_MIN, math.inf)), x=x)
