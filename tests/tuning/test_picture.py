"""How far the points of a run are from the exact path, and the picture of it."""

import math

import pytest
from small_tuning import CLIPPED, EXACT, noises

from scoresde import Plan
from scoresde.solvers import DPMSolverPP
from scoresde.tuning.picture import path_errors
from scoresde.tuning.table import Table


def test_the_points_of_a_fine_run_are_on_the_exact_path():
    fine, coarse = (Table.read(Plan.make(DPMSolverPP(2), CLIPPED, n)) for n in (40, 4))
    x = noises(CLIPPED, 50)
    ratios, errors = path_errors(fine, EXACT, x, None, 80)
    assert len(ratios) == len(errors) == 40  # all points but the start, and the end
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(math.exp(-fine.levels[-1].lam))
    # Of order 2: ten times as many steps have 1 % of the error, once they are small; 10 % is safe.
    assert max(errors) < 0.1 * max(path_errors(coarse, EXACT, x, None, 80)[1])
