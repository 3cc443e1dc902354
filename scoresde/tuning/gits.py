"""Noise levels chosen from the trajectories of a network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..integer import integer
from ..plans.executor import iterate
from ..plans.plan import Plan
from ..processes.level import Level
from ..processes.sde import SDE
from ..solvers.dpmpp import DPMSolverPP
from ..solvers.moves import ddim
from ..spacings.formulas import Spacing, check_positive
from .table import Numbers


@dataclass(frozen=True, eq=False)
class GITS:
    """The spacing that :func:`gits` fits to a network: n of the ``fine`` steps, on the path of least cost.

    Args:
        sde: the process; the spacing is for this one only.
        fine: the number of steps of the fine grid, and the largest n.
        coeff: the cost of step i is weighted by coeff^i.
        times: of the fine grid, ``(fine + 1,)``, falling, float64.
        cost: of a step from node i to node j, ``(fine + 1, fine + 1)``; inf unless i < j.
    """

    sde: SDE
    fine: int
    coeff: float
    times: Tensor = field(repr=False)
    cost: Numbers = field(repr=False)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        if sde != self.sde:
            raise ValueError(f"these levels were chosen for {self.sde}, not for {sde}")
        if n > self.fine:
            raise ValueError(
                f"n must be at most {self.fine}, the steps of the fine grid, got {n}; raise fine"
            )
        return self.times[cheapest_path(self.cost, n, self.coeff)]


@torch.no_grad()
def gits(
    denoise: Callable[[Any, Level[float]], Any],
    x: Tensor,
    sde: SDE,
    *,
    fine: int = 60,
    spacing: Spacing | str | None = None,
    coeff: float = 1.15,
) -> GITS:
    """The best levels of a fine grid for a network, by dynamic programming over its trajectories (GITS).

    The network runs once on the fine grid, from ``x``. cost_ij is the distance from the state at level j to
    the end of an Euler step in r = sigma / alpha (DDIM) from the state at level i: with y = x / alpha, it is
    the norm of (r_j - r_i) eps_i - (y_j - y_i) over a sample, averaged over the batch. The n steps minimize
    c_1 + coeff c_2 + coeff^2 c_3 + ..., where c_1 is the cost of the first, noisiest, step.

    Chen et al. 2024 (arXiv 2405.11326, with 60 fine steps and coeff 1.15). Their trajectories are Euler's, so
    that the cost of a fine step is 0; ours are DPM-Solver++(3M)'s.

    Args:
        denoise: the network as an estimate of x_0, ``denoise(x, level)``, for example a Denoiser.
        x: initial states ``(B, ...)``: a few ``sde.prior_sample`` of noise; more give better levels.
        sde: the process.
        fine: the number of steps of the fine grid, and of network calls; the spacing makes at most so many.
        spacing: of the fine grid; default, :func:`default_spacing`.
        coeff: positive; above 1, the costs of later steps count more.

    Raises:
        TypeError: ``fine`` is not an integer.
        ValueError: ``fine`` or ``coeff`` is out of range, or ``x`` is a single number.
        FloatingPointError: the trajectories are not finite.
    """
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
    cost = _step_costs(levels, states, outputs)
    if not np.isfinite(cost[np.triu_indices(fine + 1, 1)]).all():
        raise FloatingPointError("the trajectories of the network are not finite")
    times = torch.tensor([level.t for level in levels], dtype=torch.float64)
    return GITS(sde, fine, coeff, times, cost)


def cheapest_path(cost: Numbers, n: int, coeff: float) -> list[int]:
    """The n steps from the first node to the last that minimize c_1 + coeff c_2 + coeff^2 c_3 + ...

    Args:
        cost: of a step from node i to node j, ``(nodes, nodes)``; inf where there is no step.
        n: the number of steps.
        coeff: the weight of a step relative to the one before it.
    """
    to_end, choices = cost[:, -1], []
    for _ in range(n - 1):
        through = cost + coeff * to_end
        choices.append(through.argmin(1))
        to_end = through.min(1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, len(cost) - 1]


def _step_costs(levels: list[Level[float]], states: list[Any], outputs: list[Any]) -> Numbers:
    """The cost of an Euler step between every two levels."""
    cost = np.full((len(levels), len(levels)), np.inf)
    for j, s in enumerate(levels):
        for i, t in enumerate(levels[:j]):
            miss: Any = ddim(t, s, states[i], outputs[i]) - states[j]
            norms = torch.linalg.vector_norm(miss.reshape(len(miss), -1), dim=1)
            cost[i, j] = norms.mean().item() / s.alpha
    return cost
