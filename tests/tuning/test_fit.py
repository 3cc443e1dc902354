"""The objective, its local models, and Levenberg-Marquardt on them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, EXACT, exact_pairs, family, moved, noises

from scoresde import Counted
from scoresde.tuning.bands import Bands
from scoresde.tuning.family import GROUPS
from scoresde.tuning.fit import Fit
from scoresde.tuning.levenberg_marquardt import DOWNWEIGHT_ABOVE, LevenbergMarquardt
from scoresde.tuning.objective import Objective
from scoresde.tuning.pairs import Pairs


def first_two(x):
    """Features that do not depend on the third coordinate."""
    return torch.stack([x[:, 0] + 0.1 * x[:, 0] ** 2, torch.sin(x[:, 1])], 1)


@pytest.mark.parametrize("robust", [True, False])
@pytest.mark.parametrize("feature_map", [None, first_two], ids=["samples", "features"])
def test_the_gradient_is_that_of_the_objective(robust, feature_map):
    of = family()
    theta, indices = moved(of, by=0.05)
    pairs = exact_pairs(12)
    bands = Bands.of(pairs.target, 3)
    objective = Objective(0.01, bands, 0.5, 1e-3, robust)
    fit = Fit(of, EXACT, objective, batch_size=5, step=1e-6, feature_map=feature_map)
    ((gradient, matrix),) = fit.quadratic_models(theta, [fit.local_model(theta, pairs, indices)], indices)
    for k, index in enumerate(indices):
        ends = []
        for sign in (1, -1):
            other = theta.copy()
            other[index] += sign * 1e-5
            ends.append(fit.value(other, pairs))
        # Central differences of 1e-5 in float64 of objectives near 100: roundings of 1e-9 over 1e-5.
        assert gradient[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=2e-3, abs=2e-3)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_a_sample_near_a_basin_boundary_counts_little_in_the_model():
    """One sample of twelve changes a hundred times as much, and would decide every step alone."""

    def network(x, level, gain):
        return gain[:, None] * x

    network.sde = CLIPPED
    x = noises(CLIPPED, 12)
    pairs = Pairs(x, x, torch.tensor([10.0] + [0.1] * 11, dtype=torch.float64))
    of = family(nfe=2)
    fit, indices = Fit(of, network, Objective(1e3, None, robust=False)), of.indices(("weights", "scales"))

    def sizes(part):
        theta = np.zeros(of.size)
        model = fit.local_model(theta, part, indices, (np.inf, DOWNWEIGHT_ABOVE))
        return [np.trace(matrix) * len(part) for _, matrix in fit.quadratic_models(theta, [model], indices)]

    (whole, calmed), (rest, calmed_rest) = sizes(pairs), sizes(pairs[1:])
    assert whole > 100 * rest
    assert calmed < 10 * rest
    assert calmed_rest == pytest.approx(rest, rel=0.2)  # as before


def test_models_taken_elsewhere_are_exact_where_ends_are_linear():
    """In the weights of the last row they are: two parts linearized elsewhere give today's quadratic."""
    of, pairs = family(), exact_pairs(24)
    fit = Fit(of, EXACT, Objective(0.01, None, robust=False), step=1e-6)
    indices = of.groups()["weights"][-3:]
    here = np.zeros(of.size)
    models = []
    for part, by in ((pairs[:16], 0.2), (pairs[16:], -0.3)):
        there = here.copy()
        there[indices] = by
        models.append(fit.local_model(there, part, indices))
    ((gradient, matrix),) = fit.quadratic_models(here, models, indices)
    ((expected, other),) = fit.quadratic_models(here, [fit.local_model(here, pairs, indices)], indices)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)  # float64, of numbers near 1
    np.testing.assert_allclose(matrix, other, rtol=1e-9)


@pytest.mark.parametrize(
    ("window", "group", "width"),
    [(2, "weights", 2), (2, "knots", 2), (2, "scales", 2), (0, "knots", 2), (0, "weights", 6)],
)
def test_derivatives_are_taken_of_what_can_move_and_calls_before_a_change_are_reused(window, group, width):
    """Weights older than the window stay 0, and the stock solver itself uses two outputs."""
    nfe, counted = 6, Counted(EXACT)
    of, pairs = family(nfe=nfe, window=window), exact_pairs(4)
    Fit(of, counted, Objective(0.01, None)).local_model(np.zeros(of.size), pairs, of.indices([group]))
    after = [nfe - 1 - row for row in range(nfe)]  # calls after each row
    weights = sum(min(width, row + 1) * after[row] for row in range(nfe))
    first, decay, levels = nfe, sum(after), sum(after) + nfe
    assert counted.calls == nfe + first + decay + weights + levels


def test_an_iteration_takes_derivatives_of_one_part_only():
    of, counted = family(), Counted(EXACT)
    pairs, spent = exact_pairs(96), {}
    for part in (96, 24):
        optimizer = LevenbergMarquardt(
            Fit(of, counted, Objective(0.01, None)), pairs, pairs, of.indices(GROUPS), part
        )
        state, cache = optimizer.start(np.zeros(of.size)), {}
        for _ in range(2):  # the first takes derivatives on all parts
            before = counted.evaluations
            state = optimizer.iterate(state, cache)
        spent[part] = counted.evaluations - before
        assert len(set(state.linearized_at)) == (1 if part == 96 else 2)
    assert spent[24] < 0.5 * spent[96]
    # The parts take turns: the iteration after n objectives is that of part n mod 4.
    assert [point == state.linearized_at[0] for point in state.linearized_at] == [True, True, False, True]


@pytest.mark.parametrize("part", [96, 32])
def test_a_fit_lowers_the_objective_and_resumes_to_the_same_bits(part):
    of = family()
    fit = Fit(of, EXACT, Objective(0.01, None))
    optimizer = LevenbergMarquardt(fit, exact_pairs(96), exact_pairs(96, 500), of.indices(GROUPS), part)
    first = optimizer.start(np.zeros(of.size))
    states, cache = [first], {}
    while not states[-1].done and len(states) <= 4:
        states.append(optimizer.iterate(states[-1], cache))
    assert states[-1].best_objective < 0.5 * first.best_objective
    on_both = [(training + validation) / 2 for training, validation in states[-1].history]
    assert states[-1].best_objective == pytest.approx(min(on_both))
    assert fit.value(np.array(states[-1].theta), optimizer.train) == states[-1].objective
    for before, after in pairwise(states):  # without the cache of the others
        assert optimizer.iterate(before, {}) == after


def test_bands_are_an_orthonormal_split_of_the_energy():
    for shape, constant, count in (((20, 2, 6, 8), 0, 8), ((20, 11), 0, 4), ((20, 3, 2, 3), 1, 6)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x[:, :constant] = 0.5
        bands = Bands.of(x, 4)
        assert len(bands.energy) == count  # a small image has no energy in some, a constant channel in none
        each = bands.energies(bands.project(x))
        torch.testing.assert_close(each.sum(1), (x - x.mean(0)).square().flatten(1).sum(1))
        torch.testing.assert_close(each.mean(0), bands.energy)
        torch.testing.assert_close(bands.batch_energy(bands.project(x)), each.sum(0))


def test_the_objective_is_its_formula_and_its_weights_are_its_slope():
    """k = 4: rho(e) = 4 c^2 log(1 + e / (4 c^2))."""
    errors = torch.tensor([0.0, 0.5, 3.0, 100.0], dtype=torch.float64, requires_grad=True)
    for robust, rho in ((True, lambda e: 4 * 2.0 * torch.log1p(e / 8)), (False, lambda e: e)):
        objective = Objective(2.0, None, robust=robust)
        assert objective.value(errors.detach(), None) == pytest.approx(
            (rho(errors.detach()) / 2).mean().item()
        )
        (slope,) = torch.autograd.grad(rho(errors).sum(), errors)
        torch.testing.assert_close(objective.sample_weights(errors.detach()), slope)
    bands = Bands(torch.zeros(1), lambda x: x, torch.eye(2), torch.tensor([1.0, 2.0]))
    found = Objective(1.0, bands, gamma=0.5).value(torch.zeros(3), torch.tensor([math.e, 2.0]))
    assert found == pytest.approx(0.5**2 / 2)
