"""The ends of the exact solution, and how accurate they are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from ..plans.plan import Plan
from ..solvers.dpmpp import DPMSolverPP
from ..spacings.formulas import UniformLambda, UniformTime
from .pairs import Pairs, with_ends

MOST_CALLS = 1024
MAX_ERROR_SHARE = 0.05  # largest error of the teacher, relative to that of the best stock solver


@dataclass(frozen=True)
class TeacherCheck:
    """How accurate a teacher is.

    Args:
        calls: its network calls.
        difference: the root mean square difference of its ends from those of twice as many calls.
        share: ``difference`` over the error of the best stock solver.
    """

    calls: int
    difference: float
    share: float


def teacher_plan(denoiser: DenoiserLike, calls: int) -> Plan:
    """DPM-Solver++(3M) with equal steps in the half log-SNR, or in t if alpha = 0 at t_max."""
    begins = math.isfinite(denoiser.sde.lam_at(denoiser.sde.t_max))
    return Plan.make(DPMSolverPP(3), denoiser.sde, calls, UniformLambda() if begins else UniformTime())


def teacher_pairs(denoiser: DenoiserLike, x: Tensor, cond: Condition, calls: int, batch_size: int) -> Pairs:
    """Initial states with their ends by :func:`teacher_plan`."""
    return with_ends(denoiser, teacher_plan(denoiser, calls), Pairs(x, x, cond), batch_size)


def converged_teacher(
    denoiser: DenoiserLike,
    x: Tensor,
    cond: Condition,
    calls: int,
    error: Callable[[Pairs], float],
    batch_size: int,
) -> tuple[Pairs, TeacherCheck]:
    """Double a teacher's calls until its error is small beside that of the best stock solver.

    Halving the steps removes most of the error, so that the difference of the ends is nearly all of the
    coarser teacher's error (Richardson).

    Args:
        denoiser: the network.
        x: initial states ``(B, ...)``.
        cond: conditions ``(B, ...)``, if there are any.
        calls: of the first teacher.
        error: the root mean square error of the best stock solver on given pairs.
        batch_size: samples in one network call.

    Raises:
        ValueError: no teacher of up to 512 calls is accurate enough.
    """
    coarse = teacher_pairs(denoiser, x, cond, calls, batch_size)
    while True:
        fine = teacher_pairs(denoiser, x, cond, 2 * calls, batch_size)
        difference = float(exact(fine.target - coarse.target).square().mean().sqrt())
        share = difference / max(error(fine), 1e-300)
        if share < MAX_ERROR_SHARE:
            return coarse, TeacherCheck(calls, difference, share)
        calls *= 2
        if not 2 * calls <= MOST_CALLS:
            raise ValueError(
                f"the teacher does not converge: {calls} calls and half as many differ by {difference:.3g}, "
                f"{share:.0%} of the best stock solver's error; at most {MAX_ERROR_SHARE:.0%} is allowed; is "
                f"the network smooth in the noise level, and its precision enough?"
            )
        coarse = fine
