"""The parameters that tuning moves: levels and weights around the table of a stock solver."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..denoisers.gaussian import gaussian_factor
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.lists import AtLambdas
from .table import Numbers, Table

GROUPS = ("weights", "scales", "knots", "first_step")
LOG_GAP_BOUND = 3.0  # largest change of the logarithm of a gap between knots, in either direction
LEAST_GAP = 0.1  # smallest gap between knots, relative to the initial gap


@dataclass(frozen=True, eq=False)
class Family:
    """The tables around a stock solver's: its knots move, its weights follow, and corrections are added.

    theta holds, in this order:

    1. N x N corrections of the weights, in units of alpha at the level that the row leads to. Corrections
       above the diagonal, and of outputs older than ``window``, stay 0.
    2. N + 1 logarithms of factors: of the first point, and of each decay_n.
    3. The shift of the first knot, in the half log-SNR, beyond its initial place.
    4. The logarithms of the gaps between knots, up to a common constant.

    theta = 0 gives the stock solver's own table. With free weights, the levels of the network's calls and
    the levels of the states need not differ: a knot is both.

    Args:
        sde: the process.
        solver: the stock solver, deterministic; the corrections are added to its weights.
        lams: the knots, in the half log-SNR, rising: the end of the analytical first step, the levels of the
            other calls, the end of the run.
        variance: C of the analytical first step, :func:`free_step`.
        window: the number of past outputs that a row may use; 0 for all.
    """

    sde: SDE
    solver: Solver
    lams: tuple[float, ...]
    variance: float
    window: int = 4

    @cached_property
    def initial(self) -> Table:
        """The table at theta = 0."""
        return self.table(np.zeros(self.size))

    @property
    def has_first_step(self) -> bool:
        """Does it begin with an analytical first step?"""
        return self.lams[0] > self._noisiest.lam

    @cached_property
    def nfe(self) -> int:
        """The number of network calls."""
        return self._stock(self.lams).nfe

    @property
    def size(self) -> int:
        """The length of theta, fixed zeros included."""
        n = self.nfe
        return n * n + n + 1 + 1 + len(self.lams) - 1

    def groups(self) -> dict[str, list[int]]:
        """For each group of parameters, the indices in theta that may move."""
        n, k = self.nfe, len(self.lams) - 1
        window = self.window or n
        scales = n * n
        return {
            "weights": [i * n + j for i in range(n) for j in range(max(0, i + 1 - window), i + 1)],
            "scales": list(range(scales, scales + n + 1)),
            "first_step": [scales + n + 1],
            "knots": list(range(scales + n + 2, scales + n + 2 + k)) if k > 1 else [],
        }

    def indices(self, groups: Sequence[str]) -> list[int]:
        """The indices in theta of several groups, rising."""
        return sorted(index for group in groups for index in self.groups()[group])

    def table(self, theta: Numbers) -> Table:
        """The table of theta, ``(size,)``. Values out of bounds count as the bound."""
        n = self.nfe
        weights, scales, shift, gaps = np.split(theta, np.cumsum([n * n, n + 1, 1]))
        stock = self._stock(self._knots(float(shift[0]), gaps))
        alphas = np.array([level.alpha for level in stock.levels[1:]])
        return replace(
            stock,
            first=stock.first * math.exp(scales[0]),
            decay=stock.decay * np.exp(scales[1:]),
            weights=stock.weights + np.tril(weights.reshape(n, n)) * alphas[:, None],
        )

    @cached_property
    def _noisiest(self) -> Level[float]:
        return self.sde.level_at(self.sde.t_max)

    def _knots(self, shift: float, gaps: Numbers) -> tuple[float, ...]:
        if not (shift or gaps.any()):
            return self.lams
        begin, end = self.lams[0], self.lams[-1]
        first = min(max(begin + shift, self._noisiest.lam), end - 0.3 * (end - begin))
        bounded = np.exp(np.clip(gaps, -LOG_GAP_BOUND, LOG_GAP_BOUND))
        lengths = np.diff(self.lams) * (LEAST_GAP + (1 - LEAST_GAP) * bounded)
        inner = first + (end - first) * np.cumsum(lengths)[:-1] / lengths.sum()
        return (first, *inner.tolist(), end)

    def _stock(self, lams: tuple[float, ...]) -> Table:
        """The stock solver's own table on these knots, after the analytical first step."""
        table = Table.read(Plan.make(self.solver, self.sde, len(lams) - 1, AtLambdas(lams)))
        first = gaussian_factor(self._noisiest, table.levels[0], self.variance)
        return replace(table, start=self._noisiest, first=first)
