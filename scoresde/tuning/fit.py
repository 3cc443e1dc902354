"""The objective of a family's parameters on pairs, and what derivatives of a table say of it nearby."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from .derivatives import STEP, derivatives, entries, flat, rms
from .family import Family
from .objective import Objective
from .pairs import Map, Pairs, perceived, squares
from .table import Numbers


@dataclass(frozen=True, eq=False)
class Near:
    """What ``count`` pairs say of the objective near ``theta``, ends taken as linear in p active parameters.

    Args:
        gradients: of what samples miss, ``(calms, p)``; see :meth:`Fit.near`.
        matrices: their Gauss-Newton matrices, ``(calms, p, p)``.
        energies: of the bands, ``(bands,)``; none, without bands.
        slopes: their derivatives, ``(p, bands)``.
    """

    count: int
    theta: Numbers
    gradients: Numbers
    matrices: Numbers
    energies: Numbers
    slopes: Numbers


@dataclass(frozen=True, eq=False)
class Fit:
    """A family on pairs, and the objective that its parameters are to lower.

    ``perceive`` maps samples to what their errors are taken of, ``(B, ...)``; default, the samples.
    """

    family: Family
    denoiser: DenoiserLike
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
        return float(exact(squares(self.ends(theta, pairs), pairs.target, self.perceive)).mean())

    def value(self, theta: Numbers, pairs: Pairs) -> float:
        """The objective on pairs, with the ridge."""
        ends = self.ends(theta, pairs)
        if not torch.isfinite(ends).all():
            return math.inf
        errors = squares(ends, pairs.target, self.perceive)
        bands = self.objective.bands
        energies = None if bands is None else bands.sums(bands.turned(ends)) / len(ends)
        return self.objective.value(errors, energies) + self.objective.ridge * float(theta @ theta)

    def near(
        self, theta: Numbers, pairs: Pairs, active: list[int], calms: Sequence[float] = (math.inf,)
    ) -> Near:
        """Derivatives on pairs at theta, by the active parameters.

        For each of ``calms``: samples that change by more than so many times the median of their batch, in
        the mean square, count less. They may soon end elsewhere, of which derivatives say nothing.
        """
        family, objective, bands = self.family, self.objective, self.objective.bands
        table = family.table(theta)
        chosen = entries(table, self._moving(theta, active))
        k, b = len(chosen), 0 if bands is None else len(bands.energy)
        gradients, matrices = np.zeros((len(calms), k)), np.zeros((len(calms), k, k))
        energies, slopes = np.zeros(b), np.zeros((k, b))
        for part in pairs.batches(self.batch_size):
            ends, made = derivatives(table, self.denoiser, part, chosen, self.step)
            seen = perceived(self.perceive, ends)
            away = (seen - perceived(self.perceive, part.target)).flatten(1)
            errors = away.square().mean(1)
            share = (objective.shares(errors) / (objective.scale * len(pairs) * away.shape[1])).to(away)
            columns = (made if self.perceive is None else self._perceived(ends, seen, made)).flatten(2)
            changes = columns.square().sum((0, 2))
            typical = changes.median().clamp(min=1e-30)
            for calm, gradient, matrix in zip(calms, gradients, matrices, strict=True):
                weighted = (columns * (share / (1 + changes / (calm * typical)))[:, None]).flatten(1)
                matrix += 2 * (weighted @ columns.flatten(1).T).cpu().double().numpy()
                gradient += 2 * (weighted @ away.flatten()).cpu().double().numpy()
            if bands is not None:
                turned = bands.turned(ends)
                slope = torch.stack([2 * bands.sums(turned, bands.turn(one)) for one in made])
                energies += (bands.sums(turned) / len(pairs)).cpu().numpy()
                slopes += (slope / len(pairs)).cpu().numpy()
        chain = self._chain(theta, active, chosen)
        return Near(
            len(pairs), theta, gradients @ chain, chain.T @ matrices @ chain, energies, chain.T @ slopes
        )

    def quadratics(
        self, theta: Numbers, nears: Sequence[Near], active: list[int]
    ) -> list[tuple[Numbers, Numbers]]:
        """Gradient ``(p,)`` and Gauss-Newton matrix ``(p, p)`` of the objective at theta, for every calm.

        Each part of the pairs may have been looked at elsewhere, near theta: its model is the one it had
        there (the Newton-type incremental method of Rodomanov and Kropotov 2016, PMLR 48:2597, with
        Gauss-Newton matrices, and bands that are no sum over parts).
        """
        objective = self.objective
        shares = np.array([near.count for near in nears]) / sum(near.count for near in nears)
        by = [(theta - near.theta)[active] for near in nears]
        parts = list(zip(shares, nears, by, strict=True))
        gradients = sum(share * (near.gradients + near.matrices @ step) for share, near, step in parts)
        matrices = sum(share * near.matrices for share, near, _ in parts)
        gradients = gradients + 2 * objective.ridge * theta[active]
        matrices = matrices + 2 * objective.ridge * np.eye(len(active))
        if objective.bands is not None:
            target = objective.bands.energy.cpu().numpy()
            energies = sum(share * (near.energies + step @ near.slopes) for share, near, step in parts)
            energies = np.maximum(energies, 1e-3 * target)  # a line may reach below 0
            rows = sum(share * near.slopes for share, near, _ in parts) / energies
            gradients = gradients + objective.gamma**2 * rows @ np.log(energies / target)
            matrices = matrices + objective.gamma**2 * rows @ rows.T
        return list(zip(gradients, matrices, strict=True))

    def _moving(self, theta: Numbers, active: list[int]) -> Numbers:
        """Where weights are, or may come to be, other than 0."""
        moved = theta.copy()
        moved[active] += 1e-3
        here, there = (self.family.table(one).weights for one in (theta, moved))
        return np.asarray((here != 0) | (there != 0), dtype=np.float64)

    def _perceived(self, ends: Tensor, seen: Tensor, made: Tensor) -> Tensor:
        """What is perceived of derivatives of the ends, by forward differences."""
        steps = [self.step * rms(ends) / rms(one).clamp(min=1e-30) for one in made]
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
