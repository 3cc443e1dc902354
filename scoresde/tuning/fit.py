"""Levenberg-Marquardt on a table's parameters, by forward differences that begin where a change does."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..sampling import Denoises
from .family import Family
from .objective import Objective
from .table import Numbers, Table, level_at

STEP = 3e-4  # of a difference, of the state's own size; in half log-SNR, of a level
COARSE_STEP = 0.01  # of a network in less than float32, whose rounding would be larger than the difference
FACTORS = (0.03, 0.3, 3.0, 30.0, 300.0, 3000.0)  # of the damping, tried in turn
LONGEST = 0.5  # step of a parameter
CALM = 10.0  # times the median of what samples change by; those of more are near where basins part
LEAST = 5e-3  # share of the objective that an iteration must lower it by, for another
PATIENCE = 3  # iterations in which the objective on all pairs, the others among them, does not fall

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Noises ``(M, ...)`` that runs start from, and where the exact solution takes them; conditions."""

    x: Tensor
    target: Tensor
    cond: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, part: slice) -> "Pairs":
        return Pairs(self.x[part], self.target[part], None if self.cond is None else self.cond[part])

    def batches(self, size: int) -> Iterator["Pairs"]:
        """In order, ``size`` at a time."""
        for first in range(0, len(self), size):
            yield self[first : first + size]


def perceived(perceive: Map | None, x: Tensor) -> Tensor:
    """What an error is taken of: x itself, or a map of it."""
    return x if perceive is None else perceive(x)


def squares(ends: Tensor, target: Tensor, perceive: Map | None = None) -> Tensor:
    """The mean square difference of every sample, ``(B,)``."""
    return (perceived(perceive, ends) - perceived(perceive, target)).square().flatten(1).mean(1)


def entries(table: Table, mask: Numbers) -> list[tuple[str, int, int]]:
    """The numbers of a table that differences are taken of: of the weights, those where ``mask`` is set."""
    n = table.nfe
    weights = [("weight", i, j) for i in range(n) for j in range(i + 1) if mask[i, j]]
    return [
        ("first", 0, 0),
        *(("keep", i, 0) for i in range(n)),
        *weights,
        *(("level", i, 0) for i in range(n)),
    ]


def flat(table: Table, chosen: Sequence[tuple[str, int, int]]) -> Numbers:
    """These numbers, of a table."""

    def number(kind: str, i: int, j: int) -> float:
        if kind == "level":
            return table.levels[i].lam
        return table.first if kind == "first" else table.keep[i] if kind == "keep" else table.weights[i, j]

    return np.array([number(*entry) for entry in chosen])


def derivatives(
    table: Table, denoiser: Denoises, pairs: Pairs, chosen: Sequence[tuple[str, int, int]], step: float = STEP
) -> tuple[Tensor, Tensor]:
    """The ends of runs, ``(B, ...)``, and their derivatives by the chosen numbers, ``(len(chosen), B, ...)``.

    What a number does not change is not computed again: of a weight of row n, only the calls after it are;
    and the last row is linear.
    """
    points, outputs = table.roll(denoiser, [table.first * pairs.x], [], pairs.cond)
    made = torch.empty(len(chosen), *points[-1].shape, dtype=points[-1].dtype, device=points[-1].device)
    for place, (kind, i, j) in enumerate(chosen):
        if kind == "level":
            at, by = table.levels[i].lam, step
            if at + by > table.levels[-1].lam:
                by = -by
            told = table.tell(i, level_at(denoiser.sde, at + by))
            end = told.roll(denoiser, points[: i + 1], outputs[:i], pairs.cond)[0][-1]
            made[place] = (end - points[-1]) / by
            continue
        direction = pairs.x if kind == "first" else points[i] if kind == "keep" else outputs[j]
        n = 0 if kind == "first" else i + 1
        if n == table.nfe:
            made[place] = direction
            continue
        by = step * (_rms(points[n]) / _rms(direction))
        moved = torch.add(points[n], direction, alpha=by)
        end = table.roll(denoiser, [*points[:n], moved], outputs[:n], pairs.cond)[0][-1]
        made[place] = (end - points[-1]) / by
    return points[-1], made


def _rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@dataclass(frozen=True, eq=False)
class Fit:
    """A family on pairs, and the objective that its parameters are to lower.

    ``perceive`` maps samples to what their errors are taken of, ``(B, ...)``; default, the samples.
    """

    family: Family
    denoiser: Denoises
    objective: Objective
    batch_size: int = 256
    step: float = STEP
    perceive: Map | None = None

    def ends(self, theta: Numbers, pairs: Pairs) -> Tensor:
        """Where the table of theta takes the noises."""
        table = self.family.table(theta)
        return torch.cat(
            [table.run(self.denoiser, part.x, part.cond) for part in pairs.batches(self.batch_size)]
        )

    def error(self, theta: Numbers, pairs: Pairs) -> float:
        """The mean square error on pairs."""
        return float(squares(self.ends(theta, pairs), pairs.target, self.perceive).double().mean())

    def value(self, theta: Numbers, pairs: Pairs) -> float:
        """The objective on pairs, with the ridge."""
        ends = self.ends(theta, pairs)
        return self._value(ends, pairs) + self._ridge(theta)

    def _ridge(self, theta: Numbers) -> float:
        return self.objective.ridge * float(theta @ theta)

    def _value(self, ends: Tensor, pairs: Pairs) -> float:
        if not torch.isfinite(ends).all():
            return float("inf")
        errors = squares(ends, pairs.target, self.perceive)
        bands = self.objective.bands
        energies = None if bands is None else bands.sums(bands.turned(ends)) / len(ends)
        return self.objective.value(errors, energies)

    def quadratics(
        self, theta: Numbers, pairs: Pairs, active: list[int], calms: Sequence[float] = (math.inf,)
    ) -> list[tuple[Numbers, Numbers]]:
        """Gradient ``(p,)`` and Gauss-Newton matrix ``(p, p)`` of the objective in the active parameters.

        For each of ``calms``: samples that change by more than so many times the median of their batch, in
        the mean square, count less. They may soon end elsewhere, of which derivatives say nothing.
        """
        family, objective = self.family, self.objective
        table = family.table(theta)
        mask = (table.weights != 0) | (family.table(theta + 1e-3).weights != 0)
        chosen = entries(table, mask.astype(np.float64))
        k = len(chosen)
        sums = [(np.zeros(k), np.zeros((k, k))) for _ in calms]
        bands = objective.bands
        energy: Tensor | None = None
        slopes: Tensor | None = None
        for part in pairs.batches(self.batch_size):
            ends, made = derivatives(table, self.denoiser, part, chosen, self.step)
            seen = perceived(self.perceive, ends)
            away = (seen - perceived(self.perceive, part.target)).flatten(1)
            errors = away.square().mean(1)
            share = (objective.shares(errors) / (objective.scale * len(pairs) * away.shape[1])).to(away)
            columns = (made if self.perceive is None else self._perceived(ends, seen, made)).flatten(2)
            changes = columns.square().sum((0, 2))
            typical = changes.median().clamp(min=1e-30)
            for calm, (gradient, matrix) in zip(calms, sums, strict=True):
                weighted = (columns * (share / (1 + changes / (calm * typical)))[:, None]).flatten(1)
                matrix += 2 * (weighted @ columns.flatten(1).T).double().cpu().numpy()
                gradient += 2 * (weighted @ away.flatten()).double().cpu().numpy()
            if bands is not None:
                turned = bands.turned(ends)
                add = bands.sums(turned) / len(pairs)
                slope = torch.stack([2 * bands.sums(turned, bands.turn(one)) for one in made]) / len(pairs)
                energy = add if energy is None else energy + add
                slopes = slope if slopes is None else slopes + slope
        if bands is not None and energy is not None and slopes is not None:
            logs = (energy / bands.energy).log().cpu().numpy()
            rows = (slopes / energy).cpu().numpy()
            for gradient, matrix in sums:
                gradient += objective.gamma**2 * rows @ logs
                matrix += objective.gamma**2 * rows @ rows.T
        chain = self._chain(theta, active, chosen)
        pull, ridge = 2 * objective.ridge * theta[active], 2 * objective.ridge * np.eye(len(active))
        return [(chain.T @ gradient + pull, chain.T @ matrix @ chain + ridge) for gradient, matrix in sums]

    def _perceived(self, ends: Tensor, seen: Tensor, made: Tensor) -> Tensor:
        """What is perceived of derivatives of the ends, by forward differences."""
        steps = [self.step * _rms(ends) / max(_rms(one), 1e-30) for one in made]
        moved = [perceived(self.perceive, ends + by * one) for by, one in zip(steps, made, strict=True)]
        return torch.stack([(there - seen) / by for by, there in zip(steps, moved, strict=True)])

    def _chain(
        self, theta: Numbers, active: list[int], chosen: Sequence[tuple[str, int, int]], by: float = 1e-5
    ) -> Numbers:
        """The derivatives of the table's numbers by the parameters, central differences in float64."""
        columns = []
        for place in active:
            ends = []
            for sign in (1, -1):
                moved = theta.copy()
                moved[place] += sign * by
                ends.append(flat(self.family.table(moved), chosen))
            columns.append((ends[0] - ends[1]) / (2 * by))
        return np.stack(columns, 1)

    def begin(self, theta: Numbers, train: Pairs, valid: Pairs) -> "Descent":
        """The state of a descent that starts at theta."""
        now, value = self.value(theta, train), self.value(theta, valid)
        least = _pooled(now, value, train, valid)
        return Descent(tuple(theta.tolist()), now, tuple(theta.tolist()), least, history=((now, value),))

    def improve(self, state: "Descent", train: Pairs, valid: Pairs, active: list[int]) -> "Descent":
        """One iteration: (A + damping diag A) step = -gradient, the best of a few dampings; with all samples
        in A and the gradient alike only where the calm ones do not help.

        A pure function: a descent that is kept on disk after every iteration goes on to the same bits.
        """
        tried: list[tuple[float, float, Numbers]] = []
        for gradient, matrix in self.quadratics(np.array(state.theta), train, active, (CALM, math.inf)):
            tried += self._steps(state, train, active, gradient, matrix)
            now, damping, theta = min(tried, key=lambda one: one[0])
            if now < (1 - LEAST) * state.now:
                break
        if not now < state.now:
            return replace(state, done=True)
        value = self.value(theta, valid)
        least = _pooled(now, value, train, valid)
        better = least < state.least
        waited = 0 if better else state.waited + 1
        return Descent(
            tuple(theta.tolist()),
            now,
            tuple(theta.tolist()) if better else state.best,
            min(least, state.least),
            damping,
            waited,
            waited > PATIENCE or not now < (1 - LEAST) * state.now,
            (*state.history, (now, value)),
        )

    def _steps(
        self, state: "Descent", train: Pairs, active: list[int], gradient: Numbers, matrix: Numbers
    ) -> list[tuple[float, float, Numbers]]:
        """Objectives, dampings and parameters of the steps tried, until they get worse."""
        scale = np.diag(np.diag(matrix) + 1e-12 * np.diag(matrix).max())
        tried: list[tuple[float, float, Numbers]] = []
        for factor in FACTORS:
            damping = min(max(state.damping * factor, 1e-7), 1e4)
            step = np.linalg.solve(matrix + damping * scale, -gradient)
            moved = np.array(state.theta)
            moved[active] += step * min(1.0, LONGEST / np.abs(step).max())
            tried.append((self.value(moved, train), damping, moved))
            if len(tried) > 2 and tried[-2][0] < min(state.now, tried[-1][0]):
                break
        return tried

    def descend(
        self, theta: Numbers, train: Pairs, valid: Pairs, active: list[int], iterations: int = 12
    ) -> "Descent":
        """Improve until nothing does, or what is not fitted gets worse, for at most so many iterations."""
        state = self.begin(theta, train, valid)
        while not state.done and len(state.history) <= iterations:
            state = self.improve(state, train, valid, active)
        return state


def _pooled(now: float, value: float, train: Pairs, valid: Pairs) -> float:
    """The objective of both parts. Parameters are few, and what is fitted too closely shows in the second."""
    return (len(train) * now + len(valid) * value) / (len(train) + len(valid))


@dataclass(frozen=True)
class Descent:
    """Where a descent is: parameters and objective on the training pairs; the parameters that were best on
    these and the others together, and their objective on both; and the objective of each at the start and
    after each iteration."""

    theta: tuple[float, ...]
    now: float
    best: tuple[float, ...]
    least: float
    damping: float = 1e-2
    waited: int = 0
    done: bool = False
    history: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "Descent":
        """What was kept of one as JSON, to the same bits."""
        listed = {
            "theta": tuple(kept["theta"]),
            "best": tuple(kept["best"]),
            "history": tuple((now, value) for now, value in kept["history"]),
        }
        return cls(**{**kept, **listed})
