"""The objective of a family's parameters on pairs, and its local quadratic models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import exact
from .derivatives import STEP, Entry, derivatives, entry_values, rms, table_entries
from .family import Family
from .objective import Objective
from .pairs import FeatureMap, Pairs, features, squared_errors
from .table import Numbers


@dataclass(frozen=True, eq=False)
class LocalModel:
    """The objective of ``count`` pairs near ``theta``, with ends linear in the p active parameters.

    Args:
        count: the number of pairs.
        theta: where the derivatives were taken.
        gradients: of the end-point errors, ``(r, p)``: one for each of the r values of ``downweight_above``
            (:meth:`Fit.local_model`).
        matrices: the Gauss-Newton matrices, ``(r, p, p)``.
        energies: in bands, ``(bands,)``; empty without bands.
        energy_slopes: the derivatives of the energies, ``(p, bands)``.
    """

    count: int
    theta: Numbers
    gradients: Numbers
    matrices: Numbers
    energies: Numbers
    energy_slopes: Numbers


@dataclass(frozen=True, eq=False)
class Fit:
    """A family and the objective that its parameters shall lower.

    Args:
        family: the tables.
        denoiser: the network.
        objective: of the ends.
        batch_size: samples in one network call.
        step: the step of differences (:func:`difference_step`).
        feature_map: maps samples to the features in which errors are measured, ``(B, ...)``; default, the
            samples themselves.
    """

    family: Family
    denoiser: DenoiserLike
    objective: Objective
    batch_size: int = 256
    step: float = STEP
    feature_map: FeatureMap | None = None

    def ends(self, theta: Numbers, pairs: Pairs) -> Tensor:
        """The ends of the runs of theta's table."""
        table = self.family.table(theta)
        return torch.cat(
            [table.run(self.denoiser, part.x, part.cond) for part in pairs.batches(self.batch_size)]
        )

    def mean_squared_error(self, theta: Numbers, pairs: Pairs) -> float:
        """The mean square error of the ends, in features."""
        return float(exact(squared_errors(self.ends(theta, pairs), pairs.target, self.feature_map)).mean())

    def value(self, theta: Numbers, pairs: Pairs) -> float:
        """The objective with the ridge; infinite if an end is not finite."""
        ends = self.ends(theta, pairs)
        if not torch.isfinite(ends).all():
            return math.inf
        errors = squared_errors(ends, pairs.target, self.feature_map)
        bands = self.objective.bands
        energies = None if bands is None else bands.batch_energy(bands.project(ends)) / len(ends)
        return self.objective.value(errors, energies) + self.objective.ridge * float(theta @ theta)

    def local_model(
        self,
        theta: Numbers,
        pairs: Pairs,
        active: list[int],
        downweight_above: Sequence[float] = (math.inf,),
    ) -> LocalModel:
        """The model from derivatives at theta by the active parameters.

        A sample whose end changes by much more than others' lies near a basin boundary, where a linear model
        fails. For each value r of ``downweight_above``, a sample with mean square change c in a batch of
        median change c' has weight 1 / (1 + c / (r c')).
        """
        family, objective, bands = self.family, self.objective, self.objective.bands
        table = family.table(theta)
        entries = table_entries(table, self._nonzero_weights(theta, active))
        k, b = len(entries), 0 if bands is None else len(bands.energy)
        gradients, matrices = np.zeros((len(downweight_above), k)), np.zeros((len(downweight_above), k, k))
        energies, slopes = np.zeros(b), np.zeros((k, b))
        for part in pairs.batches(self.batch_size):
            ends, made = derivatives(table, self.denoiser, part, entries, self.step)
            found = features(self.feature_map, ends)
            misses = (found - features(self.feature_map, part.target)).flatten(1)
            errors = misses.square().mean(1)
            normalization = objective.scale * len(pairs) * misses.shape[1]
            weights = (objective.sample_weights(errors) / normalization).to(misses)
            columns = made if self.feature_map is None else self._feature_derivatives(ends, found, made)
            columns = columns.flatten(2)
            changes = columns.square().sum((0, 2))
            typical = changes.median().clamp(min=1e-30)
            for ratio, gradient, matrix in zip(downweight_above, gradients, matrices, strict=True):
                weighted = (columns * (weights / (1 + changes / (ratio * typical)))[:, None]).flatten(1)
                matrix += 2 * (weighted @ columns.flatten(1).T).cpu().double().numpy()
                gradient += 2 * (weighted @ misses.flatten()).cpu().double().numpy()
            if bands is not None:
                coordinates = bands.project(ends)
                slope = torch.stack(
                    [2 * bands.batch_energy(coordinates, bands.to_basis(one)) for one in made]
                )
                energies += (bands.batch_energy(coordinates) / len(pairs)).cpu().numpy()
                slopes += (slope / len(pairs)).cpu().numpy()
        chain = self._chain(theta, active, entries)
        return LocalModel(
            len(pairs), theta, gradients @ chain, chain.T @ matrices @ chain, energies, chain.T @ slopes
        )

    def quadratic_models(
        self, theta: Numbers, models: Sequence[LocalModel], active: list[int]
    ) -> list[tuple[Numbers, Numbers]]:
        """Gradient ``(p,)`` and Gauss-Newton matrix ``(p, p)`` at theta, for each ``downweight_above``.

        The models of different parts of the pairs may have been taken at other parameters near theta: each is
        evaluated at theta (the Newton-type incremental method of Rodomanov and Kropotov 2016, PMLR 48:2597).
        Ours differs: the matrices are Gauss-Newton's, and the term of the bands is not a sum over parts.
        """
        objective = self.objective
        shares = np.array([model.count for model in models]) / sum(model.count for model in models)
        steps = [(theta - model.theta)[active] for model in models]
        parts = list(zip(shares, models, steps, strict=True))
        gradients = sum(share * (model.gradients + model.matrices @ step) for share, model, step in parts)
        matrices = sum(share * model.matrices for share, model, _ in parts)
        gradients = gradients + 2 * objective.ridge * theta[active]
        matrices = matrices + 2 * objective.ridge * np.eye(len(active))
        if objective.bands is not None:
            target = objective.bands.energy.cpu().numpy()
            energies = sum(
                share * (model.energies + step @ model.energy_slopes) for share, model, step in parts
            )
            energies = np.maximum(energies, 1e-3 * target)  # the linear model may be negative
            rows = sum(share * model.energy_slopes for share, model, _ in parts) / energies
            gradients = gradients + objective.gamma**2 * rows @ np.log(energies / target)
            matrices = matrices + objective.gamma**2 * rows @ rows.T
        return list(zip(gradients, matrices, strict=True))

    def _nonzero_weights(self, theta: Numbers, active: list[int]) -> Numbers:
        """1 where a weight is not 0, or becomes not 0 when the active parameters move."""
        moved = theta.copy()
        moved[active] += 1e-3
        here, there = (self.family.table(one).weights for one in (theta, moved))
        return np.asarray((here != 0) | (there != 0), dtype=np.float64)

    def _feature_derivatives(self, ends: Tensor, found: Tensor, made: Tensor) -> Tensor:
        """The derivatives of the features, by forward differences along the derivatives of the ends."""
        steps = [self.step * rms(ends) / rms(one).clamp(min=1e-30) for one in made]
        moved = [features(self.feature_map, ends + by * one) for by, one in zip(steps, made, strict=True)]
        return torch.stack([(there - found) / by for by, there in zip(steps, moved, strict=True)])

    def _chain(
        self, theta: Numbers, active: list[int], entries: Sequence[Entry], by: float = 1e-5
    ) -> Numbers:
        """The derivatives of the table's numbers by the parameters: central differences in float64."""
        columns = []
        for index in active:
            values = []
            for sign in (1, -1):
                moved = theta.copy()
                moved[index] += sign * by
                values.append(entry_values(self.family.table(moved), entries))
            columns.append((values[0] - values[1]) / (2 * by))
        return np.stack(columns, 1)
