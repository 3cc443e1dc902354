"""The tables that a stock solver can be tuned to: smooth functions of a few dozen parameters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..denoisers.gaussian import gaussian_factor
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.level import Level
from ..processes.sde import SDE, noisiest
from ..spacings.lists import AtLambdas
from .table import Numbers, Table

GROUPS = ("weights", "scales", "knots", "free")
MOST = 3.0  # of the logarithm of a gap, in either direction
LEAST_GAP = 0.1  # of two knots, of what it is at the start


@dataclass(frozen=True, eq=False)
class Family:
    """A stock solver's table, that moves with its knots, and what may be added to it.

    The parameters are, in this order: N x N corrections of the weights (those above the diagonal, or older
    than ``window``, stay 0), in units of alpha at the level they lead to; N + 1 logarithms of factors of the
    first point and of each keep_n; the half log-SNR of the first knot, beyond where it is; and the logarithms
    of the gaps of the knots, but for a constant. All zero, they give the stock solver's own table.

    Weights that are free make a second set of levels, those that the network is told, superfluous: a knot is
    nothing but that.

    Args:
        sde: the process.
        solver: whose weights the corrections are added to; deterministic.
        lams: the knots, rising; the first is where the free step ends, the last the end of the run.
        variance: C of the free step.
        window: of past outputs; 0, all.
    """

    sde: SDE
    solver: Solver
    lams: tuple[float, ...]
    variance: float
    window: int = 4

    @cached_property
    def start(self) -> Table:
        """The table of no corrections."""
        return self.table(np.zeros(self.size))

    @property
    def free(self) -> bool:
        """Does it begin with a free step?"""
        return self.lams[0] > self._begin.lam

    @cached_property
    def nfe(self) -> int:
        """The number of network calls."""
        return self._stock(self.lams).nfe

    @property
    def size(self) -> int:
        """The number of parameters, those that are held at 0 among them."""
        n = self.nfe
        return n * n + n + 1 + 1 + len(self.lams) - 1

    def groups(self) -> dict[str, list[int]]:
        """The places of the parameters that may move, by what they are."""
        n, k = self.nfe, len(self.lams) - 1
        window = self.window or n
        at = n * n
        return {
            "weights": [i * n + j for i in range(n) for j in range(max(0, i + 1 - window), i + 1)],
            "scales": list(range(at, at + n + 1)),
            "free": [at + n + 1],
            "knots": list(range(at + n + 2, at + n + 2 + k)) if k > 1 else [],
        }

    def places(self, groups: Sequence[str]) -> list[int]:
        """Those of some groups together."""
        return sorted(place for group in groups for place in self.groups()[group])

    def table(self, theta: Numbers) -> Table:
        """The table of parameters ``(size,)``; those out of bounds count as the bound."""
        n = self.nfe
        weights, scales, free, gaps = np.split(theta, np.cumsum([n * n, n + 1, 1]))
        stock = self._stock(self._knots(float(free[0]), gaps))
        alphas = np.array([level.alpha for level in stock.levels[1:]])
        return replace(
            stock,
            first=stock.first * math.exp(scales[0]),
            keep=stock.keep * np.exp(scales[1:]),
            weights=stock.weights + np.tril(weights.reshape(n, n)) * alphas[:, None],
        )

    @cached_property
    def _begin(self) -> Level[float]:
        return noisiest(self.sde)

    def _knots(self, free: float, gaps: Numbers) -> tuple[float, ...]:
        if not (free or gaps.any()):
            return self.lams
        begin, end = self.lams[0], self.lams[-1]
        first = min(max(begin + free, self._begin.lam), end - 0.3 * (end - begin))
        shares = np.diff(self.lams) * (LEAST_GAP + (1 - LEAST_GAP) * np.exp(np.clip(gaps, -MOST, MOST)))
        inner = first + (end - first) * np.cumsum(shares)[:-1] / shares.sum()
        return (first, *inner.tolist(), end)

    def _stock(self, lams: tuple[float, ...]) -> Table:
        """The solver's own table on knots, after the free step."""
        table = Table.read(Plan.make(self.solver, self.sde, len(lams) - 1, AtLambdas(lams)))
        first = gaussian_factor(self._begin, table.levels[0], self.variance)
        return replace(table, start=self._begin, first=first)
