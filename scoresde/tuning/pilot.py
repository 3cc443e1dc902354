"""A fine run of a network on a few noises: where along its paths the error of a step is large."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..processes.level import Level
from ..processes.sde import SDE
from ..solvers.auto import VELOCITY
from ..spacings.flow_time import FlowTime
from ..spacings.formulas import Spacing
from ..spacings.measured import AtShares
from .pairs import Pairs
from .table import Numbers

ORDERS = (1, 2, 3)  # of the differences
COARSE, FINE = 20, 100  # network calls of the first run, and of the run on the levels that it measured
FIRST = FlowTime(2.0, 2.0)  # the levels of the first run
USUAL = (1, 0.2)  # the order and floor of the levels of later runs
WINDOW = 9  # nodes over which a density is smoothed


@dataclass(frozen=True, eq=False)
class Pilot:
    """What a fine run measured.

    Args:
        pairs: its initial states and its ends.
        u: sigma / (alpha + sigma) at its network calls and at its end, ``(K + 1,)``, falling.
        sizes: from k to the size of the k-th divided difference of m = eps - x_0 over u, the root mean square
            over samples and numbers, ``(K - k,)``; the first is that of the first k + 1 calls.
    """

    pairs: Pairs
    u: Numbers
    sizes: dict[int, Numbers]

    def levels(self, order: int, floor: float) -> AtShares:
        """Levels of equal errors, for a solver whose steps err by the ``order``-th derivative of m.

        Along a path, d(x / (alpha + sigma)) / du = m. A step of length h in u errs by about |d^k m / du^k|
        h^(k + 1). The errors are equal if the density of the levels over lambda is proportional to |d^k m /
        du^k|^(1 / (k + 1)) |du / dlambda|, with |du / dlambda| = u (1 - u). The density is smoothed, and is
        at least ``floor`` times its maximum.

        Args:
            order: k, one of ORDERS.
            floor: positive, below 1.
        """
        at = np.convolve(self.u[:-1], np.ones(order + 1) / (order + 1), "valid")  # the centre of k + 1 nodes
        density = self.sizes[order] ** (1 / (order + 1)) * at * (1 - at)
        padded = np.pad(density, WINDOW // 2, mode="edge")
        smooth = np.convolve(padded, np.ones(WINDOW) / WINDOW, "valid")
        smooth = np.maximum(smooth, max(floor * smooth.max(), 1e-300))
        at_nodes = np.interp(-self.u, -at, smooth)
        shares = np.cumsum((at_nodes[1:] + at_nodes[:-1]) / 2 * np.diff(_lams(self.u)))
        return AtShares(self.u.tolist(), [0.0, *(shares[:-1] / shares[-1]).tolist(), 1.0])


def run_pilot(denoiser: DenoiserLike, pairs: Pairs, batch_size: int) -> Pilot:
    """The fine run, on the levels that a coarse one measured.

    Args:
        denoiser: the network.
        pairs: initial states; their targets are not used.
        batch_size: samples in one network call.

    Raises:
        FloatingPointError: the output of the network is not finite.
    """
    coarse = _measured(denoiser, pairs, batch_size, FIRST, COARSE)
    return _measured(denoiser, pairs, batch_size, coarse.levels(*USUAL), FINE)


def accurate_plan(sde: SDE, levels: Spacing, calls: int) -> Plan:
    """The plan of a run whose ends count as exact."""
    return Plan.make(VELOCITY["velocity-p5c6"], sde, calls, levels)


def _measured(denoiser: DenoiserLike, pairs: Pairs, batch_size: int, levels: Spacing, calls: int) -> Pilot:
    """A run with the sizes of its differences."""
    plan = accurate_plan(denoiser.sde, levels, calls)
    u = np.array([level.sigma / (level.alpha + level.sigma) for level in (*plan.levels, plan.end)])
    reached, squares = [], {order: np.zeros(calls - order) for order in ORDERS}
    for part in pairs.batches(batch_size):
        seen = _Differences(u)

        def ask(x: Tensor, level: Level[Any], part: Pairs = part, seen: _Differences = seen) -> Tensor:
            d = denoiser(x, level, part.cond)
            seen.add((x - level.alpha * d) / level.sigma - d)
            return d

        reached.append(integrate(plan, ask, part.x))
        squares = {order: total + seen.squares(order) for order, total in squares.items()}
    sizes = {order: np.sqrt(total / pairs.x.numel()) for order, total in squares.items()}
    if not all(np.isfinite(size).all() for size in sizes.values()):
        raise FloatingPointError(f"the paths of the network are not finite in a run of {calls} calls")
    return Pilot(replace(pairs, target=torch.cat(reached)), u, sizes)


class _Differences:
    """The sums of squares of the divided differences of a run's outputs; only the last outputs are kept."""

    def __init__(self, u: Numbers) -> None:
        self.u = u
        self.last: list[Tensor] = []
        self.calls = 0
        self.sums: dict[int, list[Tensor]] = {order: [] for order in ORDERS}

    def add(self, m: Tensor) -> None:
        self.last = [*self.last, m][-1 - max(ORDERS) :]
        self.calls += 1
        for order in ORDERS:
            if self.calls > order:
                nodes = self.u[self.calls - order - 1 : self.calls]
                difference = torch.zeros_like(m)
                for node, output in zip(nodes, self.last[-order - 1 :], strict=True):
                    difference += output / np.prod(node - nodes[nodes != node])
                self.sums[order].append(difference.square().sum())

    def squares(self, order: int) -> Numbers:
        sums: Numbers = torch.stack(self.sums[order]).cpu().double().numpy()
        return sums


def _lams(u: Numbers) -> Numbers:
    """log((1 - u) / u); where u is 1, one less than at the next node, so that the step there is short."""
    with np.errstate(divide="ignore"):
        lams: Numbers = np.log1p(-u) - np.log(u)
    lams[0] = lams[0] if math.isfinite(lams[0]) else lams[1] - 1
    return lams
