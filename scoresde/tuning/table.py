"""Any solver of one network call a row, in one canonical form, and back as a plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..plans.executor import iterate
from ..plans.plan import Plan
from ..plans.tape import Line
from ..plans.vector import Row, Vector
from ..processes.level import Level

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """p_0 = first x_start, d_n = D(p_n, level n), p_{n+1} = keep_n p_n + sum_{j <= n} weights_nj d_j.

    p_N is the end. Every deterministic plan is one of these: whatever else it carries is a combination of
    points and outputs, and is eliminated (Shaul et al. 2024, arXiv 2403.01329, section 3).

    Args:
        start: of the state that the run begins with.
        levels: that the network is told, and the end, N + 1.
        first: the factor of the first point; 1 without a free first step.
        keep: ``(N,)``.
        weights: ``(N, N)``, lower triangular.
    """

    start: Level[float]
    levels: tuple[Level[float], ...]
    first: float
    keep: Numbers
    weights: Numbers

    @property
    def nfe(self) -> int:
        """The number of network calls."""
        return len(self.keep)

    @property
    def digits(self) -> tuple[float, ...]:
        """All numbers to eight digits: what tells two tables apart."""
        numbers = (*(level.lam for level in self.levels), self.first, *self.keep, *self.weights.flatten())
        return tuple(float(f"{number:.8g}") + 0.0 for number in numbers)

    @classmethod
    def read(cls, plan: Plan) -> "Table":
        """The canonical form of a plan.

        keep_n is the ratio of what p_{n+1} and p_n hold of the start; the rest of what p_{n+1} - keep_n p_n
        is made of are outputs. ValueError for a plan that draws noise or measures its steps.
        """
        if plan.stochastic or any(line.measured for line in plan.lines):
            raise ValueError("only a deterministic plan without measured steps has a table")
        points: list[Vector] = []

        def called(point: Vector, level: Level[float]) -> Vector:
            points.append(point)
            return Vector({f"d{len(points) - 1}": 1.0})

        *_, end = iterate(plan, called, Vector({"x0": 1.0}))
        n = len(points)
        held = [point.weights.get("x0", 0.0) for point in (*points, end)]
        on = np.array([[point.weights.get(f"d{j}", 0.0) for j in range(n)] for point in (*points, end)])
        keep = np.array([s / t if t else 0.0 for t, s in pairwise(held)])
        weights = on[1:] - keep[:, None] * on[:-1]
        if np.triu(weights, 1).any() or on[0].any():
            raise ValueError("a plan must not use an output before it is there")
        # What cancels is zero: a window of past outputs stays one.
        weights[np.abs(weights) < 1e-13 * np.abs(on[1:]).max(1, initial=1.0, keepdims=True)] = 0.0
        return cls(plan.start, (*plan.levels, plan.end), held[0], keep, weights)

    def plan(self) -> Plan:
        """The table as a plan."""
        lines = []
        for n in range(self.nfe):
            point: Row = ((f"x{n}", 1.0 if n else self.first),)
            lines.append(Line(f"d{n}", point, self.levels[n]))
            keep = self.keep[n] * (1.0 if n else self.first)
            row = [(f"x{n}", float(keep)), *((f"d{j}", float(self.weights[n, j])) for j in range(n + 1))]
            lines.append(Line(f"x{n + 1}", tuple(term for term in row if term[1])))
        return Plan.of(lines, self.start, self.levels[-1])

    def tell(self, n: int, level: Level[float]) -> "Table":
        """The same weights with another level n."""
        return replace(self, levels=(*self.levels[:n], level, *self.levels[n + 1 :]))

    def roll(
        self, denoiser: DenoiserLike, points: Sequence[Tensor], outputs: Sequence[Tensor], cond: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """All points, the end among them, and all outputs, from the first of them on.

        Args:
            points: n + 1 of them, ``(B, ...)``.
            outputs: n, those of all points but the last.
        """
        points, outputs = list(points), list(outputs)
        for n in range(len(outputs), self.nfe):
            outputs.append(denoiser(points[n], self.levels[n], cond))
            point = float(self.keep[n]) * points[n]
            for j in np.flatnonzero(self.weights[n]):
                point.add_(outputs[j], alpha=float(self.weights[n, j]))
            points.append(point)
        return points, outputs

    def run(self, denoiser: DenoiserLike, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The end of a run from x, ``(B, ...)``, at the start."""
        return self.roll(denoiser, [self.first * x], [], cond)[0][-1]
