"""A table carried out in parallel in time: many of its network calls at once, until they agree."""

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

    A round carries the plan out on outputs that are guessed (at first the last one known), notes the points
    x_k at which the network would have been asked, and asks it at all of them in one call, each at its own
    level: the guesses of the next round. An output is final once its point, and those before it, move by at
    most ``tolerance`` sigma_k (the rms of a sample, of the batch's worst) from where it was asked. The first
    of the window always is, for nothing before it changes: the run takes at most as many rounds as the plan
    has calls, and with ``tolerance`` 0 it ends with the plan's own result. Shih et al. 2023 (arXiv
    2305.16317, Algorithm 1), whose iteration on x_{k+1} = x_0 + sum of the steps of DDIM or DDPM is this one
    on their plans; here any table is a fixed point, of any order, history or noise (draw i is the same in
    every round), and the tolerance is a share of sigma_k, not of the noise of a step.

    ``nfe`` is the length of the plan, and so the most rounds; the network sees up to ``window`` times the
    samples in each, and makes more estimates in all. The host waits once a round. A sample depends, within
    the tolerance, on the samples beside it.

    Args:
        solver: any that is a table.
        window: outputs asked for at once.
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
        noise = lru_cache(4 * self.window)(noise)  # two draws a call, and a round looks two windows ahead
        live: dict[str, Any] = {"x0": x}
        asked: dict[str, Tensor] = {}  # the points of the window, and what the network said there
        outputs: dict[str, Tensor] = {}
        host = float64_device(x.device)
        begin = done = 0  # lines, and network calls, that are carried out for good
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
                window = zip(*(levels[name] for name in asked), strict=True)
                found = denoise(
                    torch.cat(list(asked.values())),
                    Level(
                        *(
                            torch.tensor(n, dtype=torch.float64).repeat_interleave(len(x)).to(host)
                            for n in window
                        )
                    ),
                    torch.arange(len(x), device=x.device).repeat(len(asked)),
                )
                outputs = dict(zip(asked, found.split(len(x)), strict=True))
        _guessed(lines[begin:], live, outputs, noise)
        end: Tensor = live[lines[-1].name]
        return end

    def _final(
        self, levels: Mapping[str, Level[float]], points: Mapping[str, Tensor], asked: Mapping[str, Tensor]
    ) -> int:
        """How many outputs, from the first on, were asked for where their points still are."""
        if not asked:
            return 0
        moved = torch.stack([worst(points[name] - asked[name]) / levels[name].sigma for name in asked])
        still = (moved <= self.tolerance).tolist()
        return max(1, [*still, False].index(False))


def _guessed(
    lines: Sequence[Line], live: dict[str, Any], outputs: Mapping[str, Tensor], noise: Draw
) -> dict[str, Tensor]:
    """Carry out lines on outputs that are given, or else the last that is, in place of the network's.

    Returns the points at which it would have been asked.
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
