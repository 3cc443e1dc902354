"""What gits returns is a spacing; that it is the best path is tested with the other spacings."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, EXACT, noises

from scoresde import VPSDE, Karras, prepare
from scoresde.spacings import Clipped
from scoresde.spacings.composed import check_spacing
from scoresde.tuning.gits import GITS, cheapest_path, gits


def test_gits_that_was_not_called_is_refused_as_a_spacing_and_what_it_returns_is_one():
    with pytest.raises(TypeError, match="spacing must be a function"):
        check_spacing("spacing", gits)
    with pytest.raises(TypeError, match="spacing must be a function"):
        Clipped(gits, -1.0)
    with pytest.raises(TypeError, match="GITS is a class"):
        check_spacing("spacing", GITS)
    spacing = gits(EXACT, noises(CLIPPED, 4), CLIPPED, fine=6)
    check_spacing("spacing", spacing)
    plan = prepare("ddim", CLIPPED, 3, spacing)
    assert [level.t for level in (*plan.levels, plan.end)] == spacing(CLIPPED, 3).tolist()


def test_it_prints_what_it_is_and_is_equal_to_itself_alone():
    x = noises(CLIPPED, 4)
    one, other = (gits(EXACT, x, CLIPPED, fine=np.int64(6), spacing=Karras()) for _ in range(2))
    assert repr(one) == "GITS(sde=EDM(t_min=0.02, t_max=20.0), fine=6, coeff=1.15)"
    assert one != other
    assert len({one, other, one}) == 2
    assert torch.equal(one(CLIPPED, 3), other(CLIPPED, 3))
    with pytest.raises(AttributeError):
        one.coeff = 2.0
    with pytest.raises(ValueError, match=r"chosen for EDM\(t_min=0.02, t_max=20.0\), not for VPSDE"):
        one(VPSDE(), 3)
    with pytest.raises(ValueError, match="n must be at most 6"):
        one(CLIPPED, 7)


@pytest.mark.parametrize("coeff", [0.5, 1.0, 3.0])
def test_the_cheapest_path_is_the_cheapest_of_all(coeff):
    """Of every path of a small graph, among them a greedy one that pays later."""
    cost = np.array(
        [
            [math.inf, 1.0, 2.0, 3.0, 20.0],
            [math.inf, math.inf, 5.0, 9.0, 11.0],
            [math.inf, math.inf, math.inf, 0.5, 4.0],
            [math.inf, math.inf, math.inf, math.inf, 6.0],
            [math.inf] * 5,
        ]
    )

    def total(path):
        return sum(coeff**k * cost[i, j] for k, (i, j) in enumerate(pairwise(path)))

    for n in range(1, 5):
        paths = [[0, *inner, 4] for inner in combinations((1, 2, 3), n - 1)]
        assert cheapest_path(cost, n, coeff) == min(paths, key=total)
