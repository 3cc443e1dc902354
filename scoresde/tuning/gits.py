"""Noise levels chosen from the trajectories of a network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..integer import integer
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.formulas import Spacing, check_positive


@torch.no_grad()
def gits(
    denoise: Callable[[Any, Level[float]], Any],
    x: Tensor,
    sde: SDE,
    *,
    fine: int = 60,
    spacing: Spacing | str | None = None,
    coeff: float = 1.15,
) -> Spacing:
    """The best levels of a fine grid for one's own network, by dynamic programming over its trajectories.

    On the fine grid the network is run once, from ``x``. Then cost_ij is how far an Euler step in r = sigma /
    alpha (DDIM) from the state at level i ends from the state at level j, (r_j - r_i) eps_i - (y_j - y_i),
    y = x / alpha: its norm over a sample, averaged over the batch. The n steps are those of least c_1 + coeff
    c_2 + coeff^2 c_3 + ..., c_1 the cost of the first, noisiest, step.

    Chen et al. 2024 (arXiv 2405.11326, GITS, with 60 fine steps and coeff 1.15).
    Their trajectories are Euler's own, for which a fine step costs nothing; ours are DPM-Solver++(3M)'s.

    Args:
        denoise: the network as an estimate of x_0, ``denoise(x, level)``: a Denoiser, or anything alike.
        x: ``(B, ...)``, the states to start from: a few ``sde.prior_sample`` of noise, the more the better.
        sde: the process; the spacing is for it alone.
        fine: steps of the fine grid, the most that the spacing can make, and the network calls this takes.
        spacing: of the fine grid; default, :func:`default_spacing`.
        coeff: positive; above 1, later steps count more.
    """
    from ..plans.executor import iterate  # they are built on spacings
    from ..plans.plan import Plan
    from ..solvers.dpmpp import DPMSolverPP
    from ..solvers.moves import ddim

    check_positive("coeff", coeff)
    fine = integer("fine", fine, 1)
    if not x.ndim:
        raise ValueError("x must be states (B, ...), got a single number")
    plan = Plan.make(DPMSolverPP(3), sde, fine, spacing)
    outputs: list[Any] = []

    def recorded(x: Any, level: Level[float]) -> Any:
        outputs.append(denoise(x, level))
        return outputs[-1]

    states = [x, *iterate(plan, recorded, x)]
    levels = [*plan.levels, plan.end]
    cost = np.full((fine + 1, fine + 1), np.inf)
    for j, s in enumerate(levels):
        for i, t in enumerate(levels[:j]):
            miss: Any = ddim(t, s, states[i], outputs[i]) - states[j]
            cost[i, j] = torch.linalg.vector_norm(miss.reshape(len(x), -1), dim=1).mean().item() / s.alpha
    if not np.isfinite(cost[np.triu_indices(fine + 1, 1)]).all():
        raise FloatingPointError("the trajectories of the network are not finite")
    times = torch.tensor([level.t for level in levels], dtype=torch.float64)

    def best(other: SDE, n: int) -> Tensor:
        if other != sde:
            raise ValueError(f"these levels were chosen for {sde}, not for {other}")
        if n > fine:
            raise ValueError(f"n must be at most {fine}, the steps of the fine grid, got {n}; raise fine")
        return times[_cheapest_path(cost, n, coeff)]

    return best


def _cheapest_path(cost: NDArray[np.float64], n: int, coeff: float) -> list[int]:
    """The n steps from the first node to the last of least c_1 + coeff c_2 + coeff^2 c_3 + ..."""
    to_end, choices = cost[:, -1], []
    for _ in range(n - 1):
        through = cost + coeff * to_end
        choices.append(through.argmin(1))
        to_end = through.min(1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, len(cost) - 1]
