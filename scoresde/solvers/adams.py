"""Exponential Adams methods: the network's past outputs joined by a polynomial, and integrated exactly."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite, isinf
from typing import NamedTuple

import numpy as np

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.grid import Grid
from .forms import FORMS, OWN, POINTS, SHARES, VARIABLES
from .moves import ddim, materialized


class Node(NamedTuple):
    """What the network said at a level: of x_0, and as the form has it."""

    level: Level[float]
    d: Vector
    m: Vector


@dataclass(frozen=True)
class ExponentialAdams:
    """Adams-Bashforth and Adams-Moulton on the exact solution: x_s = factor x_t + sum_j w_j m_j + std z.

    w_j is the integral over the step of the kernel times the Lagrange polynomial of node j, in float64.

    Args:
        predictor: the number of past outputs that a step is predicted from, 1 to 6.
        corrector: the number of outputs, that at the predicted point among them, that the step is then taken
            again with, to 7; 0 for none. It costs no network call (PEC: the output at the predicted point is
            the next step's), and there is none after the last step.
        on: the output that is joined: ``"data"`` (DPM-Solver++), ``"noise"`` (DPM-Solver, DEIS) or
            ``"velocity"``.
        variable: the polynomial's: ``"lambda"``; ``"rho"``, sigma / alpha; ``"u"``, sigma / (alpha + sigma);
            ``"t"``.
        tau: of the noise: 0 is the probability-flow ODE, 1 the reverse SDE, and any other has their
            marginals. It is 0 outside of ``tau_from`` to ``tau_to`` in sigma / alpha, by the level that a
            step goes to.
        two: the weight w of m_j - m_t where there are but two outputs: ``"exact"``, ``"bh2"``, half the
            kernel's integral (the midpoint form of 2M; UniPC's B = e^h - 1), or ``"bh1"``, half of h times
            the kernel at s (UniPC's B = h).
        start: ``"ramp"``, with as many outputs as there are, as published; its first step is of order 1.
            ``"iterated"``: the first steps are solved as one (Picard iteration on the polynomial through all
            of them), which keeps the order and costs (p - 1)(p - 3) calls more at p > 3 outputs. For the ODE;
            not for a few long steps in rho, whose weights are then huge.
        finish: ``"same"``, or ``"lower"``, where the last steps are predicted from 3, 2, 1 outputs, and
            corrected with one more, as in the codes of DPM-Solver and UniPC at few steps.

    With the iterated start the order is the predictor's or, if there is one, the corrector's, but at most
    predictor + 1, for the output at the predicted point is no better. A ramp caps it at 2, at 3 with a
    corrector, which shows only at errors far below those of use, for at the noisy end the outputs hardly
    change; with noise it is 2 at most. At 10 calls 2 or 3 outputs and the ramp are best, with more calls more
    of them. With a corrector the states of the run are the predicted points, at which the network is called.

    Known as: 2 and 3 on data, DPM-Solver++(2M, 3M) (Lu et al. 2022, arXiv 2211.01095; their code's 3M lacks a
    factor 2); on noise, DEIS (Zhang and Chen 2022, arXiv 2204.13902, eq. 15): log-rho-AB with lambda, rho-AB
    (LMS; iPNDM with the weights of uneven steps) with rho, t-AB with t; on velocity with u, Adams-Bashforth
    for flows; with a corrector of one more output UniPC (Zhao et al. 2023, arXiv 2302.04867), whose B cancels
    but for two outputs; on data with tau, SA-Solver (Xue et al. 2023, arXiv 2309.05019, eq. 14 and 17), whose
    code weighs two outputs as ``"bh1"`` does.

    Raises:
        ValueError: an argument that is none of these; velocity, or the iterated start, with tau.
    """

    predictor: int = 3
    corrector: int = 0
    on: str = "data"
    variable: str = "lambda"
    tau: float = 0.0
    tau_from: float = 0.0
    tau_to: float = inf
    two: str = "exact"
    start: str = "ramp"
    finish: str = "same"

    def __post_init__(self) -> None:
        for name, most in {"predictor": 6, "corrector": 7}.items():
            least, value = int(name == "predictor"), getattr(self, name)
            if value not in range(least, most + 1):
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}")
        choices: dict[str, Collection[str]] = {
            "on": FORMS,
            "variable": VARIABLES,
            "two": ("exact", "bh1", "bh2"),
            "start": ("ramp", "iterated"),
            "finish": ("same", "lower"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.tau < inf:
            raise ValueError(f"tau must be finite and at least 0, got {self.tau!r}")
        if self.tau and (self.on == "velocity" or self.start == "iterated"):
            raise ValueError(f"tau must be 0 with on = {self.on!r}, start = {self.start!r}, got {self.tau!r}")

    @property
    def order(self) -> int:
        """Of convergence; weak, with noise."""
        count = min(self.corrector, self.predictor + 1) or self.predictor
        if self.tau:
            return min(count, self.predictor, 2)
        return count if self.start == "iterated" else min(count, 2 + bool(self.corrector))

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        nodes = [self._node(tape, x, grid.levels[0])]
        steps = list(grid.steps())
        if self.start == "iterated":
            x, nodes, steps = self._iterated(tape, x, nodes, steps, grid.sde)
        for left, (t, s) in reversed(list(enumerate(reversed(steps), 1))):
            most = left if self.finish == "lower" else 7
            step = self._step(tape, x, t, s, nodes[0], grid.sde)
            predicted = step(nodes[: min(self.predictor, most)])
            x = tape.state(predicted)
            if left > 1:
                nodes = [self._node(tape, x, s), *nodes][:7]
            if self.corrector and left > 1:  # no state: the next step is taken from it in the same sum
                x = x + (step(nodes[: min(self.corrector, most + 1)]) - predicted)
        return x

    def _node(self, tape: Tape, x: Vector, level: Level[float]) -> Node:
        d = tape.denoise(x, level)
        m = FORMS[self.on].output(level, x, d) if level.alpha else d
        several = max(self.predictor, self.corrector) > 1 and m is not d
        return Node(level, d, materialized(tape, m) if several else m)

    def _step(
        self, tape: Tape, x: Vector, t: Level[float], s: Level[float], first: Node, sde: SDE
    ) -> "partial[Vector]":
        """The step as a function of the nodes that it joins; one draw of noise, whatever they are."""
        tau = self.tau if self.tau_from * s.alpha <= s.sigma <= self.tau_to * s.alpha else 0.0
        if isinf(s.lam - t.lam):
            return partial(lambda known, nodes: known, ddim(t, s, x, first.d))
        form = FORMS[self.on]
        known = form.transition_factor(t, s, tau) * x
        if tau:
            known = known + form.std(t, s, tau) * tape.noise()
        return partial(self._joined, known, t, s, tau, sde)

    def _joined(
        self, known: Vector, t: Level[float], s: Level[float], tau: float, sde: SDE, nodes: Sequence[Node]
    ) -> Vector:
        nodes = [node for node in nodes if node.level.alpha]
        weights = self._weights(t, s, tau, sde, [node.level for node in nodes])
        for weight, node in zip(weights, nodes, strict=True):
            known = known + weight * node.m
        return known

    def _weights(
        self, t: Level[float], s: Level[float], tau: float, sde: SDE, levels: Sequence[Level[float]]
    ) -> list[float]:
        form, h = FORMS[self.on], s.lam - t.lam
        total = form.total(t, s, tau)
        base = levels.index(t) if t in levels else 0
        if len(levels) == 2 and self.two != "exact":
            r = (levels[1 - base].lam - t.lam) / h
            half = total if self.two == "bh2" else h * float(form.kernel(s, tau, np.array(s.lam)))
            weights = [half / (2 * r)] * 2
        else:
            lam = t.lam + h * (1 + POINTS) / 2
            known = np.array([level.lam for level in levels])
            both = VARIABLES[self.variable](sde, np.concatenate((lam, known)))
            y, ys = both[: len(lam)], both[len(lam) :]
            kernel = form.kernel(s, tau, lam) * SHARES * h / 2
            # Lagrange's polynomials: over b, the product of (y - b) / (a - b), and no factor for b = a.
            own = OWN[: len(ys), : len(ys)]
            factors = (y - ys[:, None]) / np.where(own, 1.0, ys[:, None] - ys)[..., None]
            factors[own] = 1.0
            weights = (factors.prod(1) @ kernel).tolist()
        weights[base] = total - (sum(weights) - weights[base])  # exact on a constant, to the last bit
        return weights

    def _iterated(
        self,
        tape: Tape,
        x: Vector,
        nodes: list[Node],
        steps: list[tuple[Level[float], Level[float]]],
        sde: SDE,
    ) -> tuple[Vector, list[Node], list[tuple[Level[float], Level[float]]]]:
        """The state after as many steps as make a full history, that history, and the steps that are left.

        A sweep takes the states at all the levels from the start through one polynomial, and raises their
        order by one.
        """
        regular = [step for step in steps if isfinite(step[1].lam - step[0].lam)]
        p = min(max(self.predictor, self.corrector), len(regular))
        if p < 2 or len(regular) < len(steps) - 1 or isinf(steps[0][0].lam):
            return x, nodes, steps
        t, at = steps[0][0], [s for _, s in steps[: p - 1]]

        def sweep() -> list[Vector]:
            return [self._step(tape, x, t, s, nodes[-1], sde)(nodes) for s in at]

        for s in at:
            nodes = [self._node(tape, self._step(tape, x, t, s, nodes[-1], sde)(nodes), s), *nodes]
        for _ in range(p - 3):
            nodes = [
                *reversed([self._node(tape, point, s) for point, s in zip(sweep(), at, strict=True)]),
                nodes[-1],
            ]
        ends = [tape.state(point) for point in sweep()]
        return ends[-1], nodes, steps[p - 1 :]
