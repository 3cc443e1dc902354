"""One canonical form for every deterministic solver, and back to a plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..denoisers.conditions import Condition
from ..denoisers.protocol import DenoiserLike
from ..plans.executor import iterate
from ..plans.plan import Plan
from ..plans.tape import Line
from ..plans.vector import Row, Vector
from ..processes.level import Level

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """p_0 = first x, d_n = D(p_n, level n), p_{n+1} = decay_n p_n + sum_{j <= n} weights_nj d_j.

    x is the initial state, p_N the end. Every deterministic plan has this form: its other states are
    combinations of points and outputs, and are eliminated (Shaul et al. 2024, arXiv 2403.01329, section 3).

    Args:
        start: the level of the initial state.
        levels: N + 1 levels: one for each network call, and the end.
        first: the factor from the initial state to the first point; 1 without an analytical first step.
        decay: ``(N,)``.
        weights: ``(N, N)``, lower triangular.
    """

    start: Level[float]
    levels: tuple[Level[float], ...]
    first: float
    decay: Numbers
    weights: Numbers

    @property
    def nfe(self) -> int:
        """The number of network calls."""
        return len(self.decay)

    @property
    def rounded_key(self) -> tuple[float, ...]:
        """All numbers to eight digits: equal tables have equal keys."""
        numbers = (*(level.lam for level in self.levels), self.first, *self.decay, *self.weights.flatten())
        return tuple(float(f"{number:.8g}") + 0.0 for number in numbers)

    @classmethod
    def read(cls, plan: Plan) -> "Table":
        """The canonical form of a plan.

        decay_n is the ratio of the coefficients of the initial state in p_{n+1} and p_n. Then p_{n+1} -
        decay_n p_n is a combination of outputs.

        Raises:
            ValueError: the plan draws noise or measures its steps.
        """
        if plan.stochastic or any(line.measured for line in plan.lines):
            raise ValueError("only a deterministic plan without measured steps has a table")
        points: list[Vector] = []

        def called(point: Vector, level: Level[float]) -> Vector:
            points.append(point)
            return Vector({f"d{len(points) - 1}": 1.0})

        *_, end = iterate(plan, called, Vector({"x0": 1.0}))
        n = len(points)
        of_start = [point.weights.get("x0", 0.0) for point in (*points, end)]
        of_outputs = np.array(
            [[point.weights.get(f"d{j}", 0.0) for j in range(n)] for point in (*points, end)]
        )
        decay = np.array([s / t if t else 0.0 for t, s in pairwise(of_start)])
        weights = of_outputs[1:] - decay[:, None] * of_outputs[:-1]
        if np.triu(weights, 1).any() or of_outputs[0].any():
            raise ValueError("a plan must not use an output before it is there")
        # Rounding residues become 0, so that a window of past outputs stays a window.
        scale = np.abs(of_outputs[1:]).max(1, initial=1.0, keepdims=True)
        weights[np.abs(weights) < 1e-13 * scale] = 0.0
        return cls(plan.start, (*plan.levels, plan.end), of_start[0], decay, weights)

    def plan(self) -> Plan:
        """The table as a plan."""
        lines = []
        for n in range(self.nfe):
            point: Row = ((f"x{n}", 1.0 if n else self.first),)
            lines.append(Line(f"d{n}", point, self.levels[n]))
            decay = self.decay[n] * (1.0 if n else self.first)
            row = [(f"x{n}", float(decay)), *((f"d{j}", float(self.weights[n, j])) for j in range(n + 1))]
            lines.append(Line(f"x{n + 1}", tuple(term for term in row if term[1])))
        return Plan.of(lines, self.start, self.levels[-1])

    def with_level(self, n: int, level: Level[float]) -> "Table":
        """The same weights with another level for call n."""
        return replace(self, levels=(*self.levels[:n], level, *self.levels[n + 1 :]))

    def rollout(
        self, denoiser: DenoiserLike, points: Sequence[Tensor], outputs: Sequence[Tensor], cond: Condition
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Continue a run to its end: all points, the end included, and all outputs.

        Args:
            denoiser: the network.
            points: the first n + 1 points, each ``(B, ...)``.
            outputs: the first n outputs.
            cond: conditions ``(B, ...)``, if there are any.
        """
        points, outputs = list(points), list(outputs)
        for n in range(len(outputs), self.nfe):
            outputs.append(denoiser(points[n], self.levels[n], cond))
            point = float(self.decay[n]) * points[n]
            for j in np.flatnonzero(self.weights[n]):
                point.add_(outputs[j], alpha=float(self.weights[n, j]))
            points.append(point)
        return points, outputs

    def run(self, denoiser: DenoiserLike, x: Tensor, cond: Condition = None) -> Tensor:
        """The end of the run from the initial state x, ``(B, ...)``."""
        return self.rollout(denoiser, [self.first * x], [], cond)[0][-1]
