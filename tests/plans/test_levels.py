"""Runs on levels that another program brings."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from scoresde import EDM, SDE, VPSDE, DiscreteVPSDE, Level, Plan, RectifiedFlow, UniformTime, integrate
from scoresde.plans import levels_at
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM
from scoresde.spacings import Grid
from tests.plans.test_laws import EXPONENTIAL
from tests.problems import SDES, TABLES, Infinite, law, mixture, normal, point_mass


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_the_levels_of_a_grid_make_its_plan(name: str, to_clean: bool) -> None:
    """To the last bit, for solvers that ask the process for levels and rates inside a step, too."""
    for sde in (VPSDE(), EDM()):
        levels = Grid.build(sde, 7, UniformTime(), to_clean=to_clean).levels
        expected = Plan.make(TABLES[name], sde, 7, UniformTime(), to_clean=to_clean)
        assert Plan.on(TABLES[name], sde, levels) == expected
        assert Plan.on(TABLES[name], sde, iter(levels)) == expected


def karras(n: int, sigma_min: float, sigma_max: float) -> torch.Tensor:
    """The sigmas of other programs: float32, the last of them 0."""
    ramp = torch.linspace(0, 1, n)
    sigmas = (sigma_max ** (1 / 7) + ramp * (sigma_min ** (1 / 7) - sigma_max ** (1 / 7))) ** 7
    return torch.cat([sigmas, torch.zeros(1)])


@pytest.mark.parametrize("name", EXPONENTIAL)
def test_a_point_mass_is_carried_exactly_on_the_sigmas_of_another_program(name: str) -> None:
    sigmas, sde = karras(9, 0.0291675, 70.0), EDM()
    plan = Plan.on(TABLES[name], sde, levels_at(sde, sigmas))
    assert plan.start.sigma == pytest.approx(sigmas[0].item(), rel=1e-14)  # the rounding of an inverse
    assert plan.end == CLEAN
    # A few roundings of numbers of size 70 in each of some ten steps.
    assert law(plan, point_mass, 1.0, plan.start.sigma) == pytest.approx((1.0, 0.0), abs=1e-11)


def euler(sigmas: np.ndarray, x: torch.Tensor, data: float) -> torch.Tensor:
    """Euler as other programs write it, x + (sigma' - sigma) (x - D) / sigma, D without the process."""
    for sigma, after in pairwise(sigmas):
        x = x + (after - sigma) * (x - (data + 0.3 * torch.tanh(x))) / sigma
    return x


@pytest.mark.parametrize("family", ["exploding", "flow"])
def test_ddim_is_the_euler_step_of_other_programs(family: str) -> None:
    """In x_0 + sigma eps and, for flows, (1 - sigma) x_0 + sigma eps, from alpha = 0 to sigma = 0."""
    sde: SDE
    if family == "exploding":
        sde, sigmas, alphas = EDM(), karras(9, 0.03, 14.6).double().numpy(), 1.0
    else:
        sde, sigmas = RectifiedFlow(), np.linspace(1.0, 0.0, 10)
        alphas = 1.0 - sigmas
    plan = Plan.on(DDIM(), sde, levels_at(sde, sigmas, alphas))
    assert [level.sigma for level in plan.levels] == pytest.approx(sigmas[:-1].tolist(), rel=1e-14)
    x = sigmas[0] * normal(50)
    ours = integrate(plan, lambda x, level: 0.5 + 0.3 * torch.tanh(x), x)
    # Nine steps, and log and exp of each level, in float64.
    torch.testing.assert_close(ours, euler(sigmas, x, 0.5), rtol=1e-12, atol=1e-12)


def test_one_ratio_is_one_level_whatever_the_variables() -> None:
    """A variance-preserving program hands sqrt(1 - a) and sqrt(a); its sigma / alpha means the same."""
    sde = DiscreteVPSDE()
    levels = Grid.build(sde, 6, UniformTime()).levels
    kept = np.array([level.alpha for level in levels], np.float32) ** 2
    found = levels_at(sde, np.sqrt(1 - kept), np.sqrt(kept))
    ratios = levels_at(sde, [level.sigma / level.alpha for level in levels])
    for level, one, other in zip(levels, found, ratios, strict=True):
        assert other == pytest.approx(level, rel=1e-9)  # the inverse of lambda
        # float32 has 1 - alpha^2 to 6e-8, which is sigma^2 = 1e-4 at the cleanest level.
        assert one.lam == pytest.approx(level.lam, abs=1e-3)


def test_a_rounded_end_of_another_program_is_a_level() -> None:
    """float32 may round the first sigma or the last one beyond the ends of a process."""
    sde = DiscreteVPSDE()
    first, *_, last = Grid.build(sde, 3, UniformTime()).levels
    beyond = np.array([first.sigma / first.alpha * (1 + 2e-7), 1.0, last.sigma / last.alpha * (1 - 2e-7)])
    levels = levels_at(sde, beyond.astype(np.float32))
    assert (levels[0], levels[-1]) == (first, last)
    for ratios in ([first.sigma / first.alpha * 1.01, 1.0], [1.0, last.sigma / last.alpha * 0.99]):
        with pytest.raises(ValueError, match="use an SDE whose range of times is wider"):
            levels_at(sde, ratios)


@pytest.mark.parametrize(
    ("sigmas", "alphas", "word"),
    [
        ([1.0], 1.0, "at least 2"),
        (1.0, 1.0, "at least 2"),
        ([[2.0, 1.0]], 1.0, "at least 2"),
        ([3.0, 2.0, 1.0], [1.0, 1.0], r"shapes \(3,\) and \(2,\)"),
        ([2.0, -1.0], 1.0, "not negative"),
        ([2.0, math.nan], 1.0, "finite"),
        ([math.inf, 1.0], 1.0, "finite"),
        ([2.0, 1.0], [0.0, 1.0], "got lambda = -inf"),
        ([2.0, 0.0, 0.0], 1.0, "got lambda = inf"),
    ],
)
def test_sigmas_that_are_no_levels_are_refused(sigmas: object, alphas: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        levels_at(EDM(), sigmas, alphas)


A, B, C = levels_at(EDM(), [3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        ([], "at least 2, got 0"),
        ([A], "at least 2, got 1"),
        ([B, A], "strictly rise in lambda"),
        ([A, A], "strictly rise in lambda"),
        ([A, CLEAN, B], "strictly rise in lambda"),
        ([A, B._replace(lam=math.nan)], "strictly rise in lambda"),
        ([A, B._replace(alpha=0.9)], r"lie on EDM.*0\.9"),
        ([A, B._replace(sigma=2.1)], r"lie on EDM.*2\.1"),
        ([A, B._replace(t=2.1)], r"lie on EDM.*2\.1"),
        ([A, B, C._replace(lam=0.5)], r"lie on EDM.*0\.5"),
        ([Level(90.0, 1.0, 90.0, -math.log(90.0)), A], r"t in \[0\.002, 80\.0\], got 90\.0"),
        ([CLEAN, Level(1.0, 1.0, 1.0, math.inf)], "strictly rise in lambda"),
    ],
)
def test_levels_of_no_run_are_refused(levels: list[Level[float]], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Plan.on(DDIM(), EDM(), levels)


def test_levels_on_which_a_solver_cannot_step_are_refused() -> None:
    levels = levels_at(RectifiedFlow(), [1.0, 0.5, 0.1], [0.0, 0.5, 0.9])
    assert Plan.on(DDIM(), RectifiedFlow(), levels).start.alpha == 0
    with pytest.raises(ValueError, match="no finite step on RectifiedFlow"):
        Plan.on(Infinite(), RectifiedFlow(), levels)
    near = levels_at(VPSDE(), [9.0, 5.0, 3.0, 3.0 - 1e-6, 1.0, 0.5])
    with pytest.warns(UserWarning, match="apart in lambda") as warned:
        Plan.on(TABLES["dpmpp-3m"], VPSDE(), near)
    assert warned[0].filename == __file__


def test_the_law_of_a_run_on_given_levels_is_that_of_its_spacing() -> None:
    """The same levels, once as a spacing and once as another program's: the same samples."""
    grid = Grid.build(SDES["vp"], 8, to_clean=True)
    found = levels_at(SDES["vp"], [level.sigma / level.alpha for level in grid.levels])
    x = normal(40)
    for name in ("unipc", "dpm2", "heun"):
        one = integrate(Plan.on(TABLES[name], SDES["vp"], found), mixture, x)
        other = integrate(Plan.make(TABLES[name], SDES["vp"], 8, to_clean=True), mixture, x)
        # Levels agree to the rounding of the inverse of lambda, about 1e-12 in t.
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("sigmas", "alphas", "word"),
    [
        ("abc", 1.0, "sigmas must be numbers, got str"),
        (None, 1.0, "sigmas must be numbers, got NoneType"),
        (["3", "1"], 1.0, "sigmas must be numbers, got list"),
        ((x for x in (3.0, 1.0)), 1.0, "sigmas must be numbers, got generator"),
        (torch.ones(2, device="meta"), 1.0, "sigmas must be numbers, got Tensor"),
        ([3.0, 1.0], None, "alphas must be numbers, got NoneType"),
    ],
)
def test_sigmas_that_are_no_numbers_are_refused(sigmas: object, alphas: object, word: str) -> None:
    with pytest.raises(TypeError, match=word) as caught:
        levels_at(VPSDE(), sigmas, alphas)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [None, 5, [1.0, 0.5], ["a", "b"], [(1.0, 0.5, 0.5)] * 2, {1: 2}, VPSDE()])
def test_things_that_are_no_levels_are_refused(levels: object) -> None:
    with pytest.raises(TypeError, match=f"levels must be Levels, .* got {type(levels).__name__}"):
        Plan.on(DDIM(), VPSDE(), levels)  # type: ignore[arg-type]


def test_rows_of_numbers_are_levels() -> None:
    """As another program has them: arrays, tensors, tuples."""
    levels = VPSDE().levels(torch.linspace(1, 0.5, 4, dtype=torch.float64))
    expected = Plan.on(DDIM(), VPSDE(), levels)
    rows = [list(level) for level in levels]
    for given in (rows, np.array(rows), torch.tensor(rows, dtype=torch.float64), (level for level in levels)):
        assert Plan.on(DDIM(), VPSDE(), given) == expected  # type: ignore[arg-type]
