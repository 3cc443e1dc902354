"""Levels that are nearly equal, or coincide."""

import math
import re
import warnings

import pytest
import torch

from scoresde import EDM, VPSDE, Karras, Plan, RectifiedFlow, UniformLambda, UniformTime, integrate
from scoresde.spacings import AtLambdas, AtTimes, Beta, Grid, Spacing, UniformSigma
from tests.problems import SDES, TABLES, Infinite, gaussian, mixture, normal


def between(gap: float) -> Spacing:
    """Nine levels even in lambda, and one more, so far beside the fifth."""
    lams = VPSDE().lam(UniformLambda()(VPSDE(), 8)).tolist()
    return AtLambdas(sorted([*lams, lams[4] + gap]))


MULTISTEP = [
    "dpmpp-2m",
    "dpmpp-3m",
    "adams",
    "deis",
    "lms",
    "unipc",
    "dpmpp-2m-sde",
    "sde-dpm-2m",
    "er-sde-3",
]


@pytest.mark.parametrize("name", MULTISTEP)
def test_levels_that_are_nearly_equal_are_named(name: str) -> None:
    """The rounding that is warned of is there: float32 is off by about as much from float64."""
    with pytest.warns(
        UserWarning, match=r"are 1e-06 apart in lambda.* float32 a rounding, to about"
    ) as caught:
        plan = Plan.make(TABLES[name], VPSDE(), 9, between(1e-6))
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="apart in lambda"):
        assert Plan.within(9, TABLES[name], VPSDE(), between(1e-6)) == plan
    noise = [normal(20, seed=i) for i in range(20)]
    ends = [
        integrate(plan, mixture, noise[-1].to(dtype), lambda i, dtype=dtype: noise[i].to(dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    off = (ends[0] - ends[1]).abs().max().item()
    about = float(re.findall(r"about ([\d.e+-]+) of", str(caught[0].message))[0])
    assert 0.3 * about < off < 100 * about
    if name in ("dpmpp-2m", "dpmpp-3m", "adams", "deis", "lms"):  # there is nothing but rounding
        even = Plan.make(TABLES[name], VPSDE(), 9, between(0.1))
        assert (ends[1] - integrate(even, mixture, noise[-1])).abs().max() < 0.5


@pytest.mark.parametrize("name", [name for name in TABLES if name not in MULTISTEP])
def test_levels_that_are_nearly_equal_harm_no_other_solver_unnoticed(name: str) -> None:
    """Either the solver is warned of, or its float32 is that of even levels."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan = Plan.make(TABLES[name], VPSDE(), 9, between(1e-8))
    noise = [normal(20, seed=i) for i in range(60)]
    ends = [
        integrate(plan, mixture, noise[-1].to(dtype), lambda i, dtype=dtype: noise[i].to(dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    off = (ends[0] - ends[1]).abs().max().item()
    assert off > 0.01 if caught else off < 1e-3  # seeds-2 is at 2e-4 on any levels


@pytest.mark.parametrize("name", TABLES)
def test_no_spacing_by_formula_is_warned_of(name: str) -> None:
    for sde in (VPSDE(), EDM(), SDES["sub-vp"]):
        for spacing in (UniformTime(), UniformLambda(), UniformSigma(), Karras(), Beta()):
            for steps in (2, 5, 20):
                Plan.make(TABLES[name], sde, steps, spacing, to_clean=True)


@pytest.mark.parametrize("name", TABLES)
def test_levels_that_coincide_are_said_to(name: str) -> None:
    """Two times of one lambda: what cannot step between them blames neither alpha nor sigma."""
    sde = RectifiedFlow(t_max=0.9)
    times = UniformLambda()(sde, 6).tolist()
    twice = AtTimes([*times[:4], math.nextafter(times[3], 0.0), *times[4:]])
    levels = Grid.build(sde, 7, twice).levels
    assert levels[3].lam == levels[4].lam
    why = None
    try:
        assert abs(integrate(Plan.make(TABLES[name], sde, 7, twice), gaussian, 1.0, lambda i: 0.1)) < 10
    except ValueError as error:
        why = str(error)
    assert why is None or re.search(r"that coincide: t = [\d.]+ and t = [\d.]+ are 0 apart in lambda", why)
    with pytest.raises(ValueError, match="where alpha or sigma is 0"):  # which is still said where it is so
        Plan.make(Infinite(), RectifiedFlow(), 5)
