"""DPM-Solver-v3: an exponential integrator that is fitted to its network."""

from dataclasses import dataclass

import numpy as np

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .empirical_statistics import DPM_SOLVER_PP, Array, Statistics
from .moves import ddim


@dataclass(frozen=True)
class DPMSolverV3:
    """DPM-Solver-v3, multistep, with its corrector: exponential integration of what is left of the network
    when its mean slope and its mean growth are taken away.

    With u = x / alpha the probability-flow ODE is du / dlam = -l (u - c) - f, f = u - d - l (u - c) for the
    network's estimate d of x_0. As g = exp(-S) f varies least, it is what is interpolated, by a polynomial p
    in lam through the last outputs: u_s - c = exp(L_t - L_s) (u_t - c) - int exp(L - L_s + S) p dlam. The
    corrector is the same formula with the output at s too, which the next step reuses. Where l = 1, s = 0 it
    is DPM-Solver++, where l = 0, s = -1 DPM-Solver, multistep both. A step from alpha = 0 or to sigma = 0 is
    of order 1. One network call a step.

    Zheng et al. 2023 (arXiv 2310.13268, section 3 and Algorithm 2). Their l, s and b are vectors, a number
    for each dimension of x; here l and s are the same for all, so that a step is a row of numbers. Their b,
    of a network whose noise has mean zero, is (s l - l') times the mean of the data: it moves the origin
    there, and c, the network's first output of the run, is that mean to a part of alpha / sigma. The network
    is seen at the predicted state, and so is f, whose slope in u is zero on average, by the choice of l.
    They have ``predictor`` = ``corrector``, or one more in a pseudo corrector; their half-corrector, for
    strong guidance, is left out.

    Args:
        statistics: of the network; the default, l = 1 and s = 0, is no network's, and makes DPM-Solver++.
        predictor: the number of past outputs that a step is predicted from, 1 to 3.
        corrector: the number of outputs, that at the predicted point among them, that the step is then taken
            again with, 2 to 4; 0 for none. There is none after the last step.
        pseudo: for steps few and long, the part of the method, ``"predictor"``, ``"corrector"`` or
            ``"both"``, that has the pseudo order of the paper's section 3.3: the polynomial's term k is the
            divided difference of the k + 1 nearest outputs times (lam - lam_t)^k, where Newton's has a factor
            for each of the k nearest. It differs from three outputs on, and is then of order 2.

    The order is ``predictor``, or with a corrector ``corrector``, but at most ``predictor`` + 1.

    Raises:
        ValueError: an argument that is none of these.
    """

    statistics: Statistics = DPM_SOLVER_PP
    predictor: int = 2
    corrector: int = 3
    pseudo: str = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.statistics, Statistics):
            raise ValueError(f"statistics must be Statistics, as of a file, got {self.statistics!r}")
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
        past: list[tuple[int, Vector]] = []  # levels by number, and f there, latest first
        centre = before = None
        last = len(grid.levels) - 2 - (grid.levels[-1].sigma == 0)  # of the steps that are finite in lam
        for i, (t, s) in enumerate(grid.steps()):
            d = tape.denoise(x, t)
            centre = centre or d
            if t.alpha == 0 or s.sigma == 0:
                x = tape.state(ddim(t, s, x, d))
                continue
            u = x / t.alpha
            # c - f is held, which is d where l = 1, and never nothing
            past.insert(0, (i, centre - tape.point(d - (1 - integrals.linear[i]) * (u - centre))))
            if self.corrector and before:
                nodes = [past[1], past[0], *past[2 : self.corrector]]  # the step's own beginning first
                away = integrals.step(i - 1, before, nodes, self._pseudo("corrector"))
                x = tape.state(t.alpha * (centre + away))
            del past[max(self.predictor, self.corrector - 1) :]
            before = x / t.alpha - centre
            away = integrals.step(i, before, past[: self.predictor], self._pseudo("predictor"))
            x = s.alpha * (centre + away)
            x = tape.point(x) if self.corrector and i < last else tape.state(x)
        return x


class _Integrals:
    """The integrals of a run, all its quadrature points at once."""

    def __init__(self, statistics: Statistics, lam: Array) -> None:
        self.lam = np.nan_to_num(lam, posinf=0.0, neginf=0.0)  # no integral is asked for there
        linear, self.area, self.log_rms = statistics.at(self.lam)
        self.linear: list[float] = linear.tolist()
        # Between any two points of this list everything is as smooth as a Gauss rule likes it.
        low, high = self.lam.min(), self.lam.max()
        even = np.linspace(low, high, 2 + int(2 * (high - low)))
        nodes = np.array(statistics.lam)
        edges = np.unique(np.concatenate([even, self.lam, nodes[(low < nodes) & (nodes < high)]]))
        half = np.diff(edges)[:, None] / 2
        self.points = (edges[:-1, None] + half + half * GAUSS[0]).ravel()
        self.measure = (half * GAUSS[1]).ravel()
        _, self.areas, self.log_rmss = statistics.at(self.points)

    def step(self, i: int, v: Vector, nodes: list[tuple[int, Vector]], pseudo: bool) -> Vector:
        """u - c a step after level i, where it is v, by f at some levels, i the first of them."""
        part = slice(*np.searchsorted(self.points, self.lam[i : i + 2]))
        factor = self.measure[part] * np.exp(self.areas[part] - self.area[i + 1] + self.log_rmss[part])
        v = float(np.exp(self.area[i] - self.area[i + 1])) * v
        basis = _basis(self.points[part], [self.lam[j] for j, _ in nodes], pseudo)
        for (j, f), share in zip(nodes, basis, strict=True):
            v = v - float((factor * share).sum() * np.exp(-self.log_rms[j])) * f
        return v


def _basis(points: Array, nodes: list[float], pseudo: bool) -> list[Array]:
    """The share of each node's value in the polynomial, by Newton's divided differences."""
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
