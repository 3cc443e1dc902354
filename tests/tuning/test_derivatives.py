"""Derivatives of a table's ends are those of its whole run, with a step that suits the network."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, EXACT, MEANS, MIXTURE, SDES, family, moved, noises

from scoresde import ExactDenoiser, Karras, Noise, Plan, integrate
from scoresde.denoisers.network import Denoiser
from scoresde.pretrained import pretrained
from scoresde.solvers import DPMSolverPP, ExponentialAdams
from scoresde.tuning.bands import Bands
from scoresde.tuning.derivatives import STEP, derivatives, difference_step, rms, table_entries
from scoresde.tuning.family import Family
from scoresde.tuning.fit import Fit
from scoresde.tuning.objective import Objective
from scoresde.tuning.pairs import Pairs


@pytest.mark.parametrize("sde", SDES, ids=str)
def test_derivatives_from_where_a_change_begins_are_those_of_the_whole_run(sde):
    of, denoiser = family(sde), ExactDenoiser(MIXTURE, sde)
    table = of.table(moved(of)[0])
    x = noises(sde, 3)
    entries = table_entries(table, np.ones_like(table.weights))
    end, made = derivatives(table, denoiser, Pairs(x, x), entries, step=1e-6)
    torch.testing.assert_close(end, table.run(denoiser, x), rtol=0, atol=0)
    for (kind, i, j), column in zip(entries, made, strict=True):
        ends = []
        for sign in (1, -1):
            by = sign * 1e-5
            if kind == "first":
                other = replace(table, first=table.first + by)
            elif kind == "level":
                other = table.with_level(i, sde.level_of(table.levels[i].lam + by))
            else:
                name = "decay" if kind == "decay" else "weights"
                values = getattr(table, name).copy()
                values[(i,) if kind == "decay" else (i, j)] += by
                other = replace(table, **{name: values})
            ends.append(other.run(denoiser, x))
        # Forward differences of 1e-6 against central ones of 1e-5: the second derivative times 1e-6.
        torch.testing.assert_close(column, (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def test_the_step_of_the_differences_is_right_for_a_network():
    """A hundredth of the state's size is a change that a network does not answer linearly."""
    network = pretrained("mnist").denoiser
    sde = network.sde
    of = Family(sde, ExponentialAdams(), tuple(sde.lam(Karras()(sde, 3)).tolist()), variance=0.4)
    theta, indices = moved(of, ("scales", "knots"), by=0.1)
    x = 80.0 * Noise(0, torch.arange(12), (1, 28, 28))(0)
    cond = torch.arange(12) % 10
    with torch.no_grad():
        pairs = Pairs(x, integrate(Plan.make(DPMSolverPP(2), sde, 8), network, x, cond), cond)
        fit = Fit(of, network, Objective(0.05, Bands.of(pairs.target, 4), 0.2))
        ((gradient, _),) = fit.quadratic_models(theta, [fit.local_model(theta, pairs, indices)], indices)
        slopes = []
        for index in indices:
            by = np.eye(of.size)[index] * 1e-3
            slopes.append((fit.value(theta + by, pairs) - fit.value(theta - by, pairs)) / 2e-3)
    # Measured 0.003 of it; with steps of 0.01, 0.09 here, and more where samples change class.
    assert np.linalg.norm(gradient - slopes) < 0.02 * np.linalg.norm(slopes)


def test_the_step_grows_with_the_rounding_of_a_network():
    """sqrt(eps) / 2, within a factor of 2 for 8 samples; rounding to a unit has a variance of 1/12 of it."""
    level = CLIPPED.level_of(0.0)
    x = (
        level.alpha * MEANS.float()[torch.arange(8) % 3]
        + level.sigma * noises(CLIPPED, 8, dtype=torch.float32) / 20
    )

    def rounded(unit):
        return lambda x, level, cond=None: (EXACT(x.double(), level) / unit).round() * unit

    assert difference_step(EXACT, x, level) == STEP
    size = float(rms(EXACT(x, level)))
    for unit in (1e-4, 1e-3):
        expected = math.sqrt(unit / math.sqrt(12) / size) / 2
        assert 0.5 < difference_step(rounded(unit), x, level) / expected < 2
    shipped = pretrained("mnist").denoiser
    x, cond = Noise(0, torch.arange(8), (1, 28, 28))(0), torch.arange(8)
    level = shipped.sde.level_of(0.0)
    low = Denoiser(shipped.net, shipped.sde, shipped.prediction, dtype=torch.bfloat16)
    with torch.no_grad():
        steps = [difference_step(one, x, level, cond) for one in (shipped, low)]
    assert steps[0] < 1e-3
    assert 5e-3 < steps[1] < 5e-2
