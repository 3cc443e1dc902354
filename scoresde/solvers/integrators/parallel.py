"""A table carried out in parallel in time: many of its network calls at once, iterated until they agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Draw, execute
from ...plans.plan import Plan
from ...plans.tape import Line, Solver
from ...processes.level import Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ..first_order import DDIM
from ..moves import check_table
from .base import Integration, Integrator, worst


@dataclass(frozen=True)
class Parallel(Integrator):
    """Picard iteration on the outputs of the network, in a window that slides over a solver's plan.

    One round has three parts:

    1. Execute the plan on guessed outputs. (The first guess is the last known output.)
    2. Note the points x_k at which the plan calls the network.
    3. Call the network at all these points in one batch, each at its own level. The outputs are the guesses
       of the next round.

    An output is final when its point and all points before it moved by at most ``tolerance`` sigma_k since
    the call (the rms of a sample; the largest of the batch). The first output of the window is always final,
    because nothing before it changes. So the run takes at most as many rounds as the plan has calls; with
    ``tolerance`` 0 its result equals the result of the plan.

    Shih et al. 2023 (arXiv 2305.16317, Algorithm 1) iterate on x_{k+1} = x_0 + sum of the steps of DDIM or
    DDPM; on these plans both iterations are the same. Differences: the solver can be any table, of any
    order, history or noise (draw i is the same in every round), and the tolerance is relative to sigma_k,
    not to the noise of a step.

    ``nfe`` is the number of calls of the plan, the largest possible number of rounds. In each round the
    network receives up to ``window`` times the samples, so it makes more estimates in all. The host waits
    for the device once a round. A sample depends, within the tolerance, on the samples beside it.

    Args:
        solver: any solver that is a table.
        window: the number of outputs of a round.
        tolerance: at least 0.
    """

    solver: Solver = field(default_factory=DDIM)
    window: int = 16
    tolerance: float = 1e-2

    def __post_init__(self) -> None:
        check_table(self.solver)
        if isinstance(self.window, bool) or not (isinstance(self.window, int) and self.window >= 1):
            raise ValueError(f"window must be an integer of at least 1, got {self.window!r}")
        if not self.tolerance >= 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run of the longest plan of at most ``nfe`` calls."""
        if nfe is None:
            raise ValueError("nfe must be a number for parallel, got None")
        plan = Plan.within(nfe, self.solver, sde, spacing, to_clean=to_clean)

        def integrate(denoise: Any, x: Tensor, noise: Draw) -> Tensor:
            return self.carry_out(plan, denoise, x, noise)

        return Integration(plan.start, plan.end, None, integrate, plan.stochastic)

    @torch.no_grad()
    def carry_out(self, plan: Plan, denoise: Any, x: Tensor, noise: Draw) -> Tensor:
        """The end of a plan from the state x, ``(B, ...)``; ``denoise`` as in :class:`Integration`."""
        lines = plan.lines
        ends = [i + 1 for i, line in enumerate(lines) if line.level]  # after each call of the network
        noise = lru_cache(4 * self.window)(noise)  # at most two draws a call; a round looks two windows ahead
        live: dict[str, Any] = {"x0": x}
        asked: dict[str, Tensor] = {}  # the points of the window, and the outputs there
        outputs: dict[str, Tensor] = {}
        begin = done = 0  # the lines, and the network calls, that are final
        while done < len(ends):
            reach = ends[done : done + 2 * self.window] if asked else ends[:1]
            ahead = lines[begin : reach[-1]]
            points = _guessed(ahead, dict(live), outputs, noise)
            levels = {line.name: line.level for line in ahead if line.level}
            final = self._final(levels, points, asked)
            if final:
                done += final
                _guessed(lines[begin : ends[done - 1]], live, outputs, noise)
                begin = ends[done - 1]
            asked = dict(list(points.items())[final : final + self.window])
            if asked:
                rows = torch.arange(len(x), device=x.device).repeat(len(asked))
                window = _columns([levels[name] for name in asked], x)
                found = denoise(torch.cat(list(asked.values())), window, rows)
                outputs = dict(zip(asked, found.split(len(x)), strict=True))
        _guessed(lines[begin:], live, outputs, noise)
        end: Tensor = live[lines[-1].name]
        return end

    def _final(
        self, levels: Mapping[str, Level[float]], points: Mapping[str, Tensor], asked: Mapping[str, Tensor]
    ) -> int:
        """The number of final outputs, counted from the first one."""
        if not asked:
            return 0
        moved = torch.stack([worst(points[name] - asked[name]) / levels[name].sigma for name in asked])
        still = (moved <= self.tolerance).tolist()
        return max(1, [*still, False].index(False))


def _columns(levels: Sequence[Level[float]], x: Tensor) -> Level[Tensor]:
    """Levels as one level of float64 tensors, each number once for every sample."""
    host = float64_device(x.device)
    numbers = (torch.tensor(n, dtype=torch.float64) for n in zip(*levels, strict=True))
    return Level(*(n.repeat_interleave(len(x)).to(host) for n in numbers))


def _guessed(
    lines: Sequence[Line], live: dict[str, Any], outputs: Mapping[str, Tensor], noise: Draw
) -> dict[str, Tensor]:
    """Carry out lines on given outputs; where one is missing, on the last given one.

    Returns the points at which the network would be called.
    """
    names, last = iter([line.name for line in lines if line.level]), None
    points: dict[str, Tensor] = {}

    def guess(x: Tensor, level: Level[float]) -> Any:
        nonlocal last
        name = next(names)
        points[name] = x
        last = outputs.get(name, last)
        return last

    for _ in execute(lines, live, guess, noise):
        pass
    return points
