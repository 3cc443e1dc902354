"""Exponential Adams methods: a polynomial through the last outputs of the network, integrated exactly."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.grid import Grid
from .forms import FORMS, VARIABLES, lagrange, quadrature
from .moves import ddim, materialized


class Node(NamedTuple):
    """An output of the network: its level, its estimate d of x_0, and its estimate of m."""

    level: Level[float]
    d: Vector
    m: Vector


Step = tuple[Level[float], Level[float]]


@dataclass(frozen=True)
class ExponentialAdams:
    """Adams-Bashforth and Adams-Moulton on the exact solution: x_s = factor x_t + sum_j w_j m_j + std z.

    w_j is the integral over the step of the kernel times the Lagrange polynomial of node j, in float64.

    Args:
        predictor: the number of past outputs that a step is predicted from, 1 to 6.
        corrector: the number of outputs that a step is corrected from, 1 to 7; 0 is no corrector. One of them
            is the output at the predicted point. It costs no network call, because the next step uses the
            same output (PEC). The last step is not corrected.
        prediction: the quantity m that is interpolated, whatever the network itself predicts: ``"data"``
            (DPM-Solver++), ``"noise"`` (DPM-Solver, DEIS) or ``"velocity"``.
        variable: the variable of the polynomial: ``"lambda"``; ``"rho"``, sigma / alpha; ``"u"``,
            sigma / (alpha + sigma); ``"t"``.
        tau: the scale of the noise: 0 is the probability-flow ODE, 1 the reverse SDE; every tau has the same
            marginals.
        tau_from: tau is 0 in steps to a level with sigma / alpha below this.
        tau_to: tau is 0 in steps to a level with sigma / alpha above this.
        two_point_rule: the weight of m_j - m_t where a step has two outputs. ``"exact"``: the integral.
            ``"bh2"``: half the integral of the kernel (the midpoint form of 2M; UniPC's B = e^h - 1).
            ``"bh1"``: half of h times the kernel at s (UniPC's B = h).
        start: ``"ramp"``: the first steps use the outputs known so far, as published; the first
            step is of order 1. ``"iterated"``: the first steps are solved together, by Picard iteration on
            the polynomial through all of them. This keeps the order. With p outputs, p > 3, it costs
            (p - 1)(p - 3) more calls. It is for the ODE. Do not use it for a few long steps in rho: the
            weights are huge.
        finish: ``"same"``; or ``"lower"``: the last steps are predicted from 3, 2 and 1 outputs and corrected
            with one more, as in the codes of DPM-Solver and UniPC at few steps.

    With the iterated start the order is ``predictor`` or, with a corrector, ``corrector``, but at most
    predictor + 1. With a ramp it is at most 2, with a corrector at most 3, for the first step is of order 1.
    This limit shows early on :class:`FlowTime`, where the first steps are long in lambda, and on
    :class:`UniformLambda` only at very small errors, because the outputs hardly change there. With a lower
    finish the order is at most 2, for the last step is of order 1; this shows from some 100 steps on. With
    noise it is at most 2. With 10 calls, 2 or 3 outputs and the ramp are best; with more calls use more
    outputs. With a corrector the states of the run are the predicted points, at which the network is called.

    Known as:

    - data: DPM-Solver++(2M) and (3M) at 2 and 3 outputs (Lu et al. 2022, arXiv 2211.01095; the 3M of their
      code lacks a factor 2).
    - noise: DEIS (Zhang and Chen 2022, arXiv 2204.13902, eq. 15). log-rho-AB with lambda; rho-AB with rho,
      which is LMS, and iPNDM with the weights of uneven steps; t-AB with t.
    - velocity with u: Adams-Bashforth for flows.
    - with a corrector of predictor + 1 outputs: UniPC (Zhao et al. 2023, arXiv 2302.04867). Its B cancels
      except for two outputs.
    - data with tau: SA-Solver (Xue et al. 2023, arXiv 2309.05019, eq. 14 and 17). Its code weighs two outputs
      by ``"bh1"``.

    Raises:
        ValueError: an argument outside its range; velocity or the iterated start together with tau.
    """

    predictor: int = 3
    corrector: int = 0
    prediction: str = "data"
    variable: str = "lambda"
    tau: float = 0.0
    tau_from: float = 0.0
    tau_to: float = inf
    two_point_rule: str = "exact"
    start: str = "ramp"
    finish: str = "same"

    def __post_init__(self) -> None:
        for name, most in {"predictor": 6, "corrector": 7}.items():
            least, value = int(name == "predictor"), getattr(self, name)
            if value not in range(least, most + 1):
                raise ValueError(f"{name} must be an integer from {least} to {most}, got {value!r}")
        choices: dict[str, Collection[str]] = {
            "prediction": FORMS,
            "variable": VARIABLES,
            "two_point_rule": ("exact", "bh1", "bh2"),
            "start": ("ramp", "iterated"),
            "finish": ("same", "lower"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.tau < inf:
            raise ValueError(f"tau must be finite and at least 0, got {self.tau!r}")
        if self.tau and (self.prediction == "velocity" or self.start == "iterated"):
            raise ValueError(
                f"tau must be 0 with prediction = {self.prediction!r} and start = {self.start!r}, got "
                f"{self.tau!r}"
            )

    @property
    def order(self) -> int:
        """Of convergence; weak, with noise."""
        count = min(self.corrector, self.predictor + 1) or self.predictor
        if self.tau:
            return min(count, self.predictor, 2)
        if self.finish == "lower":
            return min(count, 2)
        return count if self.start == "iterated" else min(count, 2 + bool(self.corrector))

    @property
    def _bounded(self) -> bool:
        """Is a step from alpha = 0 like any other?

        It is infinite in lambda, but not in u, in which the kernel of the velocity is constant.
        """
        return (self.prediction, self.variable, self.two_point_rule) == ("velocity", "u", "exact")

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        nodes = [self.node(tape, x, grid.levels[0])]
        steps = list(grid.steps())
        if self.start == "iterated":
            x, nodes, steps = self._iterated(tape, x, nodes, steps, grid.sde)
        for left, (t, s) in reversed(list(enumerate(reversed(steps), 1))):
            most = left if self.finish == "lower" else 7
            step = self.stepper(tape, x, t, s, nodes[0], grid.sde)
            predicted = step(nodes[: min(self.predictor, most)])
            x = tape.state(predicted)
            if left > 1:
                nodes = [self.node(tape, x, s), *nodes][:7]
            if self.corrector and left > 1:  # no state: a part of the row of the next step
                x = x + (step(nodes[: min(self.corrector, most + 1)]) - predicted)
        return x

    def node(self, tape: Tape, x: Vector, level: Level[float]) -> Node:
        """The output of the network at the point x: one call."""
        d = tape.denoise(x, level)
        m = FORMS[self.prediction].output(level, x, d) if level.alpha or self._bounded else d
        several = max(self.predictor, self.corrector) > 1 and m is not d
        return Node(level, d, materialized(tape, m) if several else m)

    def stepper(
        self, tape: Tape, x: Vector, t: Level[float], s: Level[float], first: Node, sde: SDE
    ) -> Callable[[Sequence[Node]], Vector]:
        """The step from x as a function of its nodes. It draws its noise once, whatever the nodes are.

        A step to sigma = 0 uses the ``first`` node alone; so does a step from alpha = 0, if it has no finite
        weights.
        """
        tau = self.tau if self.tau_from * s.alpha <= s.sigma <= self.tau_to * s.alpha else 0.0
        if not s.sigma or not (t.alpha or self._bounded):
            end = ddim(t, s, x, first.d)
            return lambda nodes: end
        form = FORMS[self.prediction]
        known = form.transition_factor(t, s, tau) * x
        if tau:
            known = known + form.std(t, s, tau) * tape.noise()
        return lambda nodes: self._joined(known, t, s, tau, sde, nodes)

    def _joined(
        self, known: Vector, t: Level[float], s: Level[float], tau: float, sde: SDE, nodes: Sequence[Node]
    ) -> Vector:
        nodes = [node for node in nodes if node.level.alpha or self._bounded]
        weights = self._weights(t, s, tau, sde, [node.level for node in nodes])
        for weight, node in zip(weights, nodes, strict=True):
            known = known + weight * node.m
        return known

    def _weights(
        self, t: Level[float], s: Level[float], tau: float, sde: SDE, levels: Sequence[Level[float]]
    ) -> list[float]:
        form, h = FORMS[self.prediction], s.lam - t.lam
        total = form.total(t, s, tau)
        base = levels.index(t) if t in levels else 0
        if len(levels) == 2 and self.two_point_rule != "exact":
            r = (levels[1 - base].lam - t.lam) / h
            half = total if self.two_point_rule == "bh2" else h * float(form.kernel(s, tau, np.array(s.lam)))
            weights = [half / (2 * r)] * 2
        else:
            lam, widths = quadrature(t.lam, s.lam)
            known = np.array([level.lam for level in levels])
            both = VARIABLES[self.variable](sde, np.concatenate((lam, known)))
            kernel = form.kernel(s, tau, lam) * widths
            weights = (lagrange(both[: len(lam)], both[len(lam) :]) @ kernel).tolist()
        weights[base] = total - (sum(weights) - weights[base])  # exact on a constant, to the last bit
        return weights

    def _iterated(
        self, tape: Tape, x: Vector, nodes: list[Node], steps: list[Step], sde: SDE
    ) -> tuple[Vector, list[Node], list[Step]]:
        """The first steps, solved together: the state after them, a full history, and the other steps.

        A sweep steps from the start to all levels by one polynomial, and raises the order of the states by
        one.
        """
        regular = [s.sigma > 0 and (t.alpha > 0 or self._bounded) for t, s in steps]
        p = min(max(self.predictor, self.corrector), sum(regular))
        if p < 2 or not all(regular[:-1]):
            return x, nodes, steps
        t, at = steps[0][0], [s for _, s in steps[: p - 1]]

        def step_to(s: Level[float]) -> Vector:
            return self.stepper(tape, x, t, s, nodes[-1], sde)(nodes)

        for s in at:
            nodes = [self.node(tape, step_to(s), s), *nodes]
        for _ in range(p - 3):
            sweep = [step_to(s) for s in at]
            again = [self.node(tape, point, s) for point, s in zip(sweep, at, strict=True)]
            nodes = [*reversed(again), nodes[-1]]
        ends = [tape.state(point) for point in [step_to(s) for s in at]]
        return ends[-1], nodes, steps[p - 1 :]
