"""DPM-Solver-v3: an exponential integrator with coefficients of the network."""

from dataclasses import dataclass

import numpy as np

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .empirical_statistics import DPM_SOLVER_PP, Array, Statistics
from .moves import ddim


@dataclass(frozen=True)
class DPMSolverV3:
    """Multistep DPM-Solver-v3 with a corrector: exponential integration with coefficients of the network.

    With u = x / alpha the probability-flow ODE is du / dlam = -l (u - c) - f, f = u - d - l (u - c), where d
    is the network's estimate of x_0. The statistics l and s are functions of lam with integrals L and S. The
    choice of l makes the mean slope of f in u zero; the choice of s makes g = exp(-S) f vary as little as
    possible. A polynomial p in lam through the last outputs interpolates g: u_s - c = exp(L_t - L_s) (u_t -
    c) - int exp(L - L_s + S) p dlam. The corrector is the same formula with the output at s too, which the
    next step reuses. l = 1, s = 0 is multistep DPM-Solver++, l = 0, s = -1 multistep DPM-Solver.

    One network call a step. A step from alpha = 0 or to sigma = 0 is of order 1. The order is ``predictor``
    or, with a corrector, ``corrector``, but at most ``predictor`` + 1.

    Zheng et al. 2023 (arXiv 2310.13268, section 3 and Algorithm 2). Differences:

    - Their l, s and b are vectors, one number for each dimension of x. Here l and s are the same for all
      dimensions, so that a step is a row of numbers.
    - Their b moves the origin to the mean of the data: for a network whose noise has mean zero it is
      (s l - l') times this mean. Here c is the network's first output of the run, which is this mean up to a
      term of size alpha / sigma.
    - They have ``corrector`` = ``predictor``, or one more in a pseudo corrector. Their half-corrector, for
      strong guidance, is left out.

    Args:
        statistics: l and s of the network. The default, l = 1 and s = 0, makes DPM-Solver++.
        predictor: the number of past outputs that a step is predicted from, 1 to 3.
        corrector: the number of outputs that a step is corrected from, 2 to 4; 0 is no corrector. One of them
            is the output at the predicted point. The last step is not corrected.
        pseudo: the part of the method, ``"predictor"``, ``"corrector"`` or ``"both"``, that has the pseudo
            order of the paper's section 3.3, for few long steps. Term k of the polynomial is then the divided
            difference of the k + 1 nearest outputs times (lam - lam_t)^k; Newton's form has a factor for each
            of the k nearest. They differ from three outputs on, where the pseudo order is 2.

    Raises:
        ValueError: an argument outside its range.
    """

    statistics: Statistics = DPM_SOLVER_PP
    predictor: int = 2
    corrector: int = 3
    pseudo: str = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.statistics, Statistics):
            raise ValueError(
                f"statistics must be Statistics, as Statistics.load returns, got {self.statistics!r}"
            )
        for name, known in (
            ("predictor", (1, 2, 3)),
            ("corrector", (0, 2, 3, 4)),
            ("pseudo", ("none", "predictor", "corrector", "both")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")

    @property
    def order(self) -> int:
        """Of convergence."""
        predictor = min(self.predictor, 2 if self._pseudo("predictor") else 3)
        corrector = min(self.corrector, 2 if self._pseudo("corrector") else 4)
        return min(corrector, predictor + 1) or predictor

    def _pseudo(self, part: str) -> bool:
        return self.pseudo in (part, "both")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        integrals = _Integrals(self.statistics, np.array([level.lam for level in grid.levels]))
        past: list[tuple[int, Vector]] = []  # the number of a level, and f there, latest first
        centre = before = None
        last = len(grid.levels) - 2 - (grid.levels[-1].sigma == 0)  # the last step that is finite in lam
        for i, (t, s) in enumerate(grid.steps()):
            d = tape.denoise(x, t)
            centre = centre or d
            if t.alpha == 0 or s.sigma == 0:
                x = tape.state(ddim(t, s, x, d))
                continue
            u = x / t.alpha
            # The point is c - f: d where l = 1, and never an empty row
            past.insert(0, (i, centre - tape.point(d - (1 - integrals.linear[i]) * (u - centre))))
            if self.corrector and before:
                nodes = [past[1], past[0], *past[2 : self.corrector]]  # the beginning of the step first
                away = integrals.step(i - 1, before, nodes, self._pseudo("corrector"))
                x = tape.state(t.alpha * (centre + away))
            del past[max(self.predictor, self.corrector - 1) :]
            before = x / t.alpha - centre
            away = integrals.step(i, before, past[: self.predictor], self._pseudo("predictor"))
            x = s.alpha * (centre + away)
            x = tape.point(x) if self.corrector and i < last else tape.state(x)
        return x


class _Integrals:
    """The integrals of a run; the statistics at all quadrature points are evaluated at once."""

    def __init__(self, statistics: Statistics, lam: Array) -> None:
        self.lam = np.nan_to_num(lam, posinf=0.0, neginf=0.0)  # steps of order 1 need no integral
        linear, self.area, self.log_rms = statistics.at(self.lam)
        self.linear: list[float] = linear.tolist()
        # Between two neighbours of this list all integrands are smooth: no node of a spline lies inside.
        low, high = self.lam.min(), self.lam.max()
        even = np.linspace(low, high, 2 + int(2 * (high - low)))
        nodes = np.array(statistics.lam)
        edges = np.unique(np.concatenate([even, self.lam, nodes[(low < nodes) & (nodes < high)]]))
        half = np.diff(edges)[:, None] / 2
        self.points = (edges[:-1, None] + half + half * GAUSS[0]).ravel()
        self.measure = (half * GAUSS[1]).ravel()
        _, self.areas, self.log_rmss = statistics.at(self.points)

    def step(self, i: int, v: Vector, nodes: list[tuple[int, Vector]], pseudo: bool) -> Vector:
        """u - c one step after level i, from v = u - c at level i and the values of f at the nodes."""
        part = slice(*np.searchsorted(self.points, self.lam[i : i + 2]))
        factor = self.measure[part] * np.exp(self.areas[part] - self.area[i + 1] + self.log_rmss[part])
        v = float(np.exp(self.area[i] - self.area[i + 1])) * v
        basis = _basis(self.points[part], [self.lam[j] for j, _ in nodes], pseudo)
        for (j, f), share in zip(nodes, basis, strict=True):
            v = v - float((factor * share).sum() * np.exp(-self.log_rms[j])) * f
        return v


def _basis(points: Array, nodes: list[float], pseudo: bool) -> list[Array]:
    """The weight of each node's value in the polynomial, by Newton's divided differences."""
    powers = [
        np.prod([points - (nodes[0] if pseudo else node) for node in nodes[:k]] or [np.ones_like(points)], 0)
        for k in range(len(nodes))
    ]
    return [
        sum(
            powers[k] / np.prod([node - nodes[i] for i in range(k + 1) if i != j])
            for k in range(j, len(nodes))
        )
        for j, node in enumerate(nodes)
    ]


GAUSS = np.polynomial.legendre.leggauss(6)
