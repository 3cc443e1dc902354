"""Levenberg-Marquardt on a fit, one resumable iteration at a time."""

import math
from dataclasses import dataclass, replace

import numpy as np

from .fit import Fit, LocalModel
from .pairs import Pairs
from .table import Numbers

DAMPING_FACTORS = (0.03, 0.3, 3.0, 30.0, 300.0, 3000.0)  # on the last damping, tried in this order
LONGEST_STEP = 0.5  # of one parameter, in an iteration
DOWNWEIGHT_ABOVE = 10.0  # samples more than 10 x the median sensitive lie near a basin boundary
LEAST_DECREASE = 5e-3  # relative decrease of the objective below which an iteration counts as slow
PATIENCE = 3  # iterations without a new best objective on training and validation pairs together

Theta = tuple[float, ...]
ModelCache = dict[tuple[int, Theta], LocalModel]  # of a part of the training pairs, at parameters


@dataclass(frozen=True)
class LMState:
    """The state of an optimization between two iterations.

    Args:
        theta: the parameters.
        objective: on the training pairs, at theta.
        best: the parameters of the lowest objective on training and validation pairs together.
        best_objective: that objective.
        linearized_at: for each part of the training pairs, where its derivatives were last taken.
        damping: of the last iteration.
        slow: was the decrease of the last iteration below ``LEAST_DECREASE``?
        stalled: iterations since ``best`` changed.
        done: has the optimization ended?
        history: the objective on training and on validation pairs, at the start and after each iteration.
    """

    theta: Theta
    objective: float
    best: Theta
    best_objective: float
    linearized_at: tuple[Theta, ...] = ()
    damping: float = 1e-2
    slow: bool = False
    stalled: int = 0
    done: bool = False
    history: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False)
class LevenbergMarquardt:
    """The optimization of a fit on training pairs, stopped early by validation pairs.

    An iteration takes derivatives on one part of the training pairs. The other parts keep the model from
    where they were last linearized (:meth:`Fit.quadratic_models`). If this does not lower the objective, or
    lowers it slowly twice in a row, the iteration takes derivatives on all parts. The objective itself is
    always of all pairs. The optimization ends when it is slow after derivatives on all parts.

    Args:
        fit: the objective.
        train: pairs whose objective is lowered.
        valid: pairs that choose the best parameters.
        active: the indices of the parameters that may move.
        part: the number of pairs of one part.
    """

    fit: Fit
    train: Pairs
    valid: Pairs
    active: list[int]
    part: int

    def start(self, theta: Numbers, previous: LMState | None = None) -> LMState:
        """The state at theta. ``previous``: of an optimization on the first of the same training pairs."""
        objective, validation = self.fit.value(theta, self.train), self.fit.value(theta, self.valid)
        point = tuple(theta.tolist())
        linearized_at, history = (previous.linearized_at, previous.history) if previous else ((), ())
        history = (*history, (objective, validation))
        best_objective = self._pooled(objective, validation)
        return LMState(point, objective, point, best_objective, linearized_at, history=history)

    def iterate(self, state: LMState, cache: ModelCache) -> LMState:
        """One iteration: (A + damping diag A) step = -gradient, with the best of a few dampings.

        Sensitive samples are weighted down in A and in the gradient; only if this does not lower the
        objective, all samples count alike. The result depends on ``state`` alone, to the bit: ``cache``, to
        which models are added, saves network calls only.
        """
        parts = list(self.train.batches(self.part))
        current, old = len(state.history) % len(parts), state.linearized_at
        partial = [old[k] if k < len(old) and k != current else state.theta for k in range(len(parts))]
        everywhere = [state.theta] * len(parts)
        attempts = [(partial, 0)] * (partial != everywhere) + [(everywhere, 0), (everywhere, 1)]
        tried: list[tuple[float, float, Numbers]] = []
        for points, weighting in attempts:
            tried += self._steps(state, *self._models(state, parts, points, cache)[weighting])
            objective, damping, theta = min(tried, key=lambda one: one[0])
            required = 1 - LEAST_DECREASE if state.slow or points == everywhere else 1
            if objective < required * state.objective:
                break
        if not objective < state.objective:
            return replace(state, done=True)
        return self._moved(state, theta, objective, damping, tuple(points))

    def _moved(
        self,
        state: LMState,
        theta: Numbers,
        objective: float,
        damping: float,
        linearized_at: tuple[Theta, ...],
    ) -> LMState:
        """The state after a step that lowered the objective."""
        validation = self.fit.value(theta, self.valid)
        point, pooled = tuple(theta.tolist()), self._pooled(objective, validation)
        better = pooled < state.best_objective
        slow = not objective < (1 - LEAST_DECREASE) * state.objective
        stalled = 0 if better else state.stalled + 1
        return LMState(
            theta=point,
            objective=objective,
            best=point if better else state.best,
            best_objective=min(pooled, state.best_objective),
            linearized_at=linearized_at,
            damping=damping,
            slow=slow,
            stalled=stalled,
            done=stalled > PATIENCE or (slow and set(linearized_at) == {state.theta}),
            history=(*state.history, (objective, validation)),
        )

    def _models(
        self, state: LMState, parts: list[Pairs], points: list[Theta], cache: ModelCache
    ) -> list[tuple[Numbers, Numbers]]:
        """Gradient and matrix at the state: with sensitive samples weighted down, and with equal weights."""
        for k, (part, point) in enumerate(zip(parts, points, strict=True)):
            if (k, point) not in cache:
                ratios = (DOWNWEIGHT_ABOVE, math.inf)
                cache[k, point] = self.fit.local_model(np.array(point), part, self.active, ratios)
        models = [cache[k, point] for k, point in enumerate(points)]
        return self.fit.quadratic_models(np.array(state.theta), models, self.active)

    def _steps(
        self, state: LMState, gradient: Numbers, matrix: Numbers
    ) -> list[tuple[float, float, Numbers]]:
        """Objectives, dampings and parameters of the steps tried, until they get worse."""
        scale = np.diag(np.diag(matrix) + 1e-12 * np.diag(matrix).max())
        tried: list[tuple[float, float, Numbers]] = []
        for factor in DAMPING_FACTORS:
            damping = min(max(state.damping * factor, 1e-7), 1e4)
            step = np.linalg.solve(matrix + damping * scale, -gradient)
            moved = np.array(state.theta)
            moved[self.active] += step * min(1.0, LONGEST_STEP / np.abs(step).max())
            tried.append((self.fit.value(moved, self.train), damping, moved))
            if len(tried) > 2 and tried[-2][0] < min(state.objective, tried[-1][0]):
                break
        return tried

    def _pooled(self, training: float, validation: float) -> float:
        """The objective on all pairs. Parameters are few: overfitting shows in the validation part."""
        train, valid = len(self.train), len(self.valid)
        return (train * training + valid * validation) / (train + valid)
