"""Where the exact solution ends, and how well that is known."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..solvers.dpmpp import DPMSolverPP
from .pairs import Pairs

MOST_CALLS = 1024
SHARE = 0.05  # of the best stock solver's error, that the teacher's own may be


@dataclass(frozen=True)
class Certificate:
    """A teacher of ``calls`` calls, whose ends differ by ``difference``, in root mean square, from those of
    twice as many; ``share`` of the best stock solver's error."""

    calls: int
    difference: float
    share: float


def taught(denoiser: DenoiserLike, x: Tensor, cond: Tensor | None, calls: int, batch_size: int) -> Pairs:
    """Noises with their ends by DPM-Solver++(3M) in as many calls, equal steps in the half log-SNR."""
    plan = Plan.make(DPMSolverPP(3), denoiser.sde, calls)
    ends = [
        integrate(plan, lambda at, level, c=part.cond: denoiser(at, level, c), part.x)  # type: ignore[misc]
        for part in Pairs(x, x, cond).batches(batch_size)
    ]
    return Pairs(x, torch.cat(ends), cond)


def certify(
    denoiser: DenoiserLike,
    x: Tensor,
    cond: Tensor | None,
    calls: int,
    error: Callable[[Pairs], float],
    batch_size: int,
) -> tuple[Pairs, Certificate]:
    """Double a teacher's calls until its ends stand still, beside the error of the best stock solver.

    Halving the steps takes away most of an error, so that the difference is nearly all of the teacher's
    (Richardson).

    Args:
        calls: of the first teacher.
        error: of the best stock solver to given pairs, root mean square.

    Raises:
        ValueError: no teacher of up to 512 calls is good enough.
    """
    coarse = taught(denoiser, x, cond, calls, batch_size)
    while True:
        fine = taught(denoiser, x, cond, 2 * calls, batch_size)
        difference = float(exact(fine.target - coarse.target).square().mean().sqrt())
        share = difference / max(error(fine), 1e-300)
        if share < SHARE:
            return coarse, Certificate(calls, difference, share)
        calls *= 2
        if not 2 * calls <= MOST_CALLS:
            raise ValueError(
                f"the teacher does not converge: {calls} calls and half as many differ by {difference:.3g}, "
                f"{share:.0%} of the best stock solver's error, where {SHARE:.0%} is asked; is the network "
                f"smooth in the noise level, and its precision enough?"
            )
        coarse = fine
