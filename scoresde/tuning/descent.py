"""Levenberg-Marquardt: from parameters to better ones, a step at a time, each of which can be kept."""

import math
from dataclasses import dataclass, replace

import numpy as np

from .fit import Fit, Near
from .pairs import Pairs
from .table import Numbers

FACTORS = (0.03, 0.3, 3.0, 30.0, 300.0, 3000.0)  # of the damping, tried in turn
LONGEST = 0.5  # step of a parameter
CALM = 10.0  # times the median of what samples change by; those of more are near where basins part
LEAST = 5e-3  # share of the objective; iterations that lower it by less are slow
PATIENCE = 3  # iterations in which the objective on all pairs, the others among them, does not fall

Theta = tuple[float, ...]
Known = dict[tuple[int, Theta], Near]


@dataclass(frozen=True)
class Descent:
    """Where a descent is: parameters and objective on the training pairs; the parameters that were best on
    these and the others together, and their objective on both; the parameters at which each part of the
    training pairs was last looked at; and the objective of each at the start and after each iteration."""

    theta: Theta
    now: float
    best: Theta
    least: float
    looked: tuple[Theta, ...] = ()
    damping: float = 1e-2
    slow: bool = False
    waited: int = 0
    done: bool = False
    history: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Descending:
    """A fit's descents on training pairs, watched on others.

    Derivatives are taken of ``part`` training pairs at a time: every iteration looks at one part anew, and
    the others count by what they said when they were last looked at (:meth:`Fit.quadratics`); at all of
    them, where that does not help, or is slow twice running. The objective is that of all pairs, always. A
    descent ends when it is slow after a look at all parts.
    """

    fit: Fit
    train: Pairs
    valid: Pairs
    active: list[int]
    part: int

    def begin(self, theta: Numbers, before: Descent | None = None) -> Descent:
        """The state of a descent that starts at theta, where ``before``, on the first of the training pairs,
        came to."""
        now, value = self.fit.value(theta, self.train), self.fit.value(theta, self.valid)
        at, least = tuple(theta.tolist()), self._pooled(now, value)
        looked, history = (before.looked, before.history) if before else ((), ())
        return Descent(at, now, at, least, looked, history=(*history, (now, value)))

    def improve(self, state: Descent, known: Known) -> Descent:
        """One iteration: (A + damping diag A) step = -gradient, the best of a few dampings; with all samples
        in A and the gradient alike only where the calm ones do not help.

        A pure function, up to what is ``known`` already of parts at parameters, which is added to: a descent
        that is kept on disk after every iteration goes on to the same bits.
        """
        parts = list(self.train.batches(self.part))
        turn, old = len(state.history) % len(parts), state.looked
        looked = [old[k] if k < len(old) and k != turn else state.theta for k in range(len(parts))]
        fresh = [state.theta] * len(parts)
        attempts = [(looked, 0)] * (looked != fresh) + [(fresh, 0), (fresh, 1)]
        tried: list[tuple[float, float, Numbers]] = []
        for looked, calm in attempts:
            tried += self._steps(state, *self._models(state, parts, looked, known)[calm])
            now, damping, theta = min(tried, key=lambda one: one[0])
            if now < (1 - LEAST if state.slow or looked == fresh else 1) * state.now:
                break
        if not now < state.now:
            return replace(state, done=True)
        value = self.fit.value(theta, self.valid)
        at, least = tuple(theta.tolist()), self._pooled(now, value)
        better = least < state.least
        slow = not now < (1 - LEAST) * state.now
        waited = 0 if better else state.waited + 1
        return Descent(
            theta=at,
            now=now,
            best=at if better else state.best,
            least=min(least, state.least),
            looked=tuple(looked),
            damping=damping,
            slow=slow,
            waited=waited,
            done=waited > PATIENCE or (slow and looked == fresh),
            history=(*state.history, (now, value)),
        )

    def descend(self, theta: Numbers, iterations: int = 12) -> Descent:
        """Improve until nothing does, or what is not fitted gets worse, for at most so many iterations."""
        state, known = self.begin(theta), Known()
        while not state.done and len(state.history) <= iterations:
            state = self.improve(state, known)
        return state

    def _models(
        self, state: Descent, parts: list[Pairs], looked: list[Theta], known: Known
    ) -> list[tuple[Numbers, Numbers]]:
        for k, (part, at) in enumerate(zip(parts, looked, strict=True)):
            if (k, at) not in known:
                known[k, at] = self.fit.near(np.array(at), part, self.active, (CALM, math.inf))
        nears = [known[k, at] for k, at in enumerate(looked)]
        return self.fit.quadratics(np.array(state.theta), nears, self.active)

    def _steps(
        self, state: Descent, gradient: Numbers, matrix: Numbers
    ) -> list[tuple[float, float, Numbers]]:
        """Objectives, dampings and parameters of the steps tried, until they get worse."""
        scale = np.diag(np.diag(matrix) + 1e-12 * np.diag(matrix).max())
        tried: list[tuple[float, float, Numbers]] = []
        for factor in FACTORS:
            damping = min(max(state.damping * factor, 1e-7), 1e4)
            step = np.linalg.solve(matrix + damping * scale, -gradient)
            moved = np.array(state.theta)
            moved[self.active] += step * min(1.0, LONGEST / np.abs(step).max())
            tried.append((self.fit.value(moved, self.train), damping, moved))
            if len(tried) > 2 and tried[-2][0] < min(state.now, tried[-1][0]):
                break
        return tried

    def _pooled(self, now: float, value: float) -> float:
        """The objective of both parts. Parameters are few; what is fitted too closely shows in the second."""
        train, valid = len(self.train), len(self.valid)
        return (train * now + valid * value) / (train + valid)
