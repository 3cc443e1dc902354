"""Spacings by a formula or fitted to a network, the default, and what is refused."""

import math
import re
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from scoresde import EDM, SDE, VPSDE, Level, Plan, RectifiedFlow, integrate
from scoresde.plans.executor import iterate
from scoresde.registry import build
from scoresde.solvers import DDIM, DPMSolverPP
from scoresde.spacings import (
    SPACINGS,
    AlignYourSteps,
    AtLambdas,
    AtSigmas,
    AtTimes,
    Beta,
    Clipped,
    FlowTime,
    Grid,
    Joined,
    Karras,
    Polyexponential,
    PowerTime,
    QuadraticTime,
    Refined,
    Shifted,
    Spacing,
    UniformLambda,
    UniformSigma,
    UniformTime,
    default_spacing,
    spacing_of,
)
from scoresde.tuning.gits import cheapest_path, gits
from tests.problems import SDES, floats, mixture, normal, sdes
from tests.spacings.cases import composed, fractions, ratios


@given(sdes, composed, st.integers(1, 60))
def test_every_spacing_falls_from_one_end_of_every_sde_to_the_other(
    sde: SDE, spacing: Spacing, n: int
) -> None:
    times = spacing(sde, n)
    assert times.shape == (n + 1,)
    assert times.dtype == torch.float64
    assert (times[0].item(), times[-1].item()) == (sde.t_max, sde.t_min)  # to the last bit
    assert times.diff().max() < 0


@given(sdes, st.integers(1, 60))
def test_uniform_time_takes_equal_steps_of_t(sde: SDE, n: int) -> None:
    expected = sde.t_max + fractions(n) * (sde.t_min - sde.t_max)
    torch.testing.assert_close(
        UniformTime()(sde, n), expected, rtol=1e-13, atol=1e-13 * sde.t_max
    )  # roundings


@given(sdes, st.integers(1, 60), floats(0.3, 5))
def test_power_time_takes_equal_steps_of_a_root_of_t(sde: SDE, n: int, exponent: float) -> None:
    first, last = sde.t_max ** (1 / exponent), sde.t_min ** (1 / exponent)
    roots = PowerTime(exponent)(sde, n) ** (1 / exponent)
    # roundings
    torch.testing.assert_close(roots, first + fractions(n) * (last - first), rtol=1e-12, atol=1e-12 * first)
    assert torch.equal(QuadraticTime()(sde, n), PowerTime(2.0)(sde, n))


@given(sdes, st.integers(1, 60), floats(0.3, 3), floats(0.3, 3))
def test_beta_takes_equal_parts_of_a_beta_distribution(sde: SDE, n: int, a: float, b: float) -> None:
    """Lee et al. 2024: the quantiles of Beta(a, b), noisiest first, over the times."""
    quantiles = torch.tensor([stats.beta.ppf(1 - i / n, a, b) for i in range(n + 1)])
    expected = sde.t_min + quantiles * (sde.t_max - sde.t_min)
    # roundings, and the roundings of 1 - i / n, which a density of infinite slope at the end makes larger
    torch.testing.assert_close(Beta(a, b)(sde, n), expected, rtol=1e-9, atol=1e-11 * sde.t_max)


@given(sdes, st.integers(2, 60))
def test_uniform_lam_takes_equal_steps_of_the_half_log_snr(sde: SDE, n: int) -> None:
    steps = sde.lam(UniformLambda()(sde, n)).diff()
    # lam is recovered from t; near t = 1 alpha = cos(pi t / 2) loses digits to 1 - t, down to 1e-4 of t here.
    torch.testing.assert_close(steps, steps.mean().expand(n), rtol=1e-7, atol=1e-9)


@given(sdes, st.integers(1, 60), floats(0.5, 12))
def test_karras_takes_equal_steps_of_a_root_of_sigma_over_alpha(sde: SDE, n: int, rho: float) -> None:
    roots = ratios(sde, Karras(rho)(sde, n)) ** (1 / rho)
    expected = roots[0] + fractions(n) * (roots[-1] - roots[0])
    atol = 1e-14 * roots[0].item()  # roundings
    torch.testing.assert_close(roots, expected, rtol=1e-7, atol=atol)  # digits of 1 - t, as above


@given(sdes, st.integers(1, 60))
def test_uniform_sigma_takes_equal_steps_of_sigma_over_alpha(sde: SDE, n: int) -> None:
    r = ratios(sde, UniformSigma()(sde, n))
    torch.testing.assert_close(r, r[0] + fractions(n) * (r[-1] - r[0]), rtol=1e-7, atol=0)  # as above


@given(sdes, st.integers(1, 30))
def test_the_limits_of_karras_are_uniform_lam_and_a_step_into_the_dark(sde: SDE, n: int) -> None:
    """Neither overflows, and for 1e9 no digit is lost: 1 / rho of lambda is the difference to the limit."""
    torch.testing.assert_close(Karras(1e9)(sde, n), UniformLambda()(sde, n), rtol=1e-6, atol=1e-8)
    tiny = sde.lam(Karras(1e-4)(sde, n))
    torch.testing.assert_close(tiny[:-1], tiny[:1].expand(n), rtol=0, atol=1e-3)


@given(st.integers(2, 7), st.data())
def test_thecheapest_path_is_the_cheapest_of_all(nodes: int, data: st.DataObject) -> None:
    cost = np.full((nodes, nodes), np.inf)
    above = np.triu_indices(nodes, 1)
    cost[above] = data.draw(st.lists(floats(0, 1), min_size=len(above[0]), max_size=len(above[0])))
    coeff, n = data.draw(floats(0.5, 2)), data.draw(st.integers(1, nodes - 1))

    def total(path: list[int]) -> float:
        return sum(coeff**k * cost[i, j] for k, (i, j) in enumerate(pairwise(path)))

    every = [[0, *inner, nodes - 1] for inner in combinations(range(1, nodes - 1), n - 1)]
    path = cheapest_path(cost, n, coeff)
    assert path in every
    assert total(path) == pytest.approx(min(map(total, every)), rel=1e-12, abs=1e-15)  # roundings


def starts(sde: SDE, count: int, *shape: int) -> Tensor:
    return sde.prior_sample(normal(count, *shape, seed=3))


@pytest.mark.parametrize("coeff", [0.7, 1.15])
@pytest.mark.parametrize("name", ["vp", "edm", "rectified-flow"])
def test_gits_is_its_recursion_on_the_errors_of_euler_steps(name: str, coeff: float) -> None:
    """In the paper's variables, y = x / alpha and sigma / alpha; every sub-grid tried."""
    sde, fine = SDES[name], 8
    # Two kinds of samples, one of them far out: a mean of norms is not the norm of all.
    x = starts(sde, 6, 2, 3) * torch.tensor([1, 1, 1, 1, 1, 6.0]).reshape(6, 1, 1)
    plan = Plan.make(DPMSolverPP(3), sde, fine, Karras())
    levels = [*plan.levels, plan.end]
    y = [state / level.alpha for state, level in zip([x, *iterate(plan, mixture, x)], levels, strict=True)]
    r = [level.sigma / level.alpha for level in levels]
    eps = [
        (y[i] - mixture(y[i], Level(math.nan, 1.0, r[i], -math.log(r[i])))) / r[i] for i in range(fine)
    ]  # fmt: skip

    def cost(i: int, j: int) -> float:
        miss = y[i] + (r[j] - r[i]) * eps[i] - y[j]
        return np.mean([np.sqrt((sample**2).sum()) for sample in miss.numpy()]).item()

    def total(path: tuple[int, ...]) -> float:
        return sum(coeff**k * cost(i, j) for k, (i, j) in enumerate(pairwise(path)))

    spacing = gits(mixture, x, sde, fine=fine, spacing=Karras(), coeff=coeff)
    for n in range(1, fine + 1):
        best = min(((0, *inner, fine) for inner in combinations(range(1, fine), n - 1)), key=total)
        assert spacing(sde, n).tolist() == [levels[i].t for i in best]


@pytest.mark.parametrize("name", SDES)
def test_gits_is_better_than_what_knows_nothing_of_the_network(name: str) -> None:
    """The error of DDIM on the mixture, from the whole prior, with levels learnt on other noise."""
    sde = SDES[name]
    spacing = gits(mixture, starts(sde, 32), sde)
    even = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    x = sde.prior_sample(torch.special.ndtri(even))
    exact = integrate(Plan.make(DPMSolverPP(3), sde, 300), mixture, x)
    for n in range(4, 9):
        chosen, *others = (
            (integrate(Plan.make(DDIM(), sde, n, s), mixture, x) - exact).abs().mean().item()
            for s in (spacing, UniformLambda(), Karras())
        )
        assert chosen < 0.8 * min(others)  # 0.45 to 0.66 of them


def test_gits_falls_from_end_to_end_and_takes_any_network_and_process() -> None:
    sde, calls = RectifiedFlow(), []  # alpha = 0 at its start

    def network(x: Tensor, level: Level[float]) -> Tensor:
        calls.append(level)
        return mixture(x, level)

    spacing = gits(network, starts(sde, 3, 2).float(), sde, fine=12)
    assert len(calls) == 12
    for n in range(1, 13):
        times = spacing(sde, n)
        assert times.diff().max() < 0
        assert (times[0], times[-1], len(times)) == (sde.t_max, sde.t_min, n + 1)
    assert torch.equal(spacing(sde, 12), default_spacing(sde)(sde, 12))
    assert len(calls) == 12
    with pytest.raises(ValueError, match=r"n must be at most 12, .*got 13; raise fine"):
        spacing(sde, 13)
    with pytest.raises(ValueError, match=r"chosen for RectifiedFlow.*, not for VPSDE"):
        spacing(VPSDE(), 4)
    with pytest.raises(FloatingPointError, match="not finite"):
        gits(lambda x, level: x * math.nan, starts(sde, 3), sde, fine=3)


@pytest.mark.parametrize(
    "spacing",
    [
        UniformLambda(),
        UniformSigma(),
        Karras(),
        Polyexponential(2.0),
        Shifted(Karras(), 2.0),
        Refined(UniformLambda()),
    ],
)
def test_no_half_log_snr_no_spacing_in_it(spacing: Spacing) -> None:
    with pytest.raises(ValueError, match=r"no half log-SNR at t_max, where alpha = 0.*uniform-t"):
        Grid.build(RectifiedFlow(), 5, spacing)
    assert Grid.build(RectifiedFlow(), 6, Clipped(spacing, -4.0)).levels[0].lam == pytest.approx(
        -4, rel=1e-12
    )


@pytest.mark.parametrize(
    "spacing",
    [UniformTime(), PowerTime(3.0), Beta(), FlowTime(2, 4), Shifted(UniformTime()), Refined(Beta())],
)
def test_spacings_in_t_begin_where_alpha_is_0(spacing: Spacing) -> None:
    levels = Grid.build(RectifiedFlow(), 6, spacing).levels
    assert (levels[0].t, levels[0].alpha, levels[-1].t) == (1.0, 0.0, 1e-3)


def test_spacings_are_made_by_name() -> None:
    sde = EDM()
    for name, spacing in {
        "uniform-t": UniformTime(),
        "quadratic-t": QuadraticTime(),
        "uniform-lambda": UniformLambda(),
        "uniform-sigma": UniformSigma(),
    }.items():
        assert build("spacing", SPACINGS, name) == spacing
    assert build("spacing", SPACINGS, {"name": "at-times", "times": [3.0, 1.0]}) == AtTimes([3.0, 1.0])
    assert build("spacing", SPACINGS, {"name": "at-sigmas", "sigmas": [3.0, 1.0]}) == AtSigmas([3.0, 1.0])
    assert build("spacing", SPACINGS, {"name": "at-lambdas", "lams": [-1.0, 1.0]}) == AtLambdas([-1.0, 1.0])
    for spec, spacing in {
        "karras:rho=5": Karras(5.0),
        "power-t:exponent=3": PowerTime(3.0),
        "polyexponential:rho=2": Polyexponential(2.0),
        "beta:a=0.5,b=0.9": Beta(0.5, 0.9),
        "align-your-steps:model=sdxl": AlignYourSteps("sdxl"),
        "shifted:shift=2": Shifted(UniformTime(), 2.0),
        "shifted:shift=2,spacing=karras:rho=5": Shifted(Karras(5.0), 2.0),
        "clipped:lam_min=-2,spacing=beta": Clipped(Beta(), -2.0),
        "refined:parts=3": Refined(Karras(), 3),
        "joined:noisy=karras:rho=5,clean=uniform-t,lam=0,share=0.4": Joined(
            Karras(5.0), UniformTime(), 0.0, 0.4
        ),
    }.items():
        assert torch.equal(spacing_of(spec)(sde, 9), spacing(sde, 9))


WIDE = "use an SDE whose range of times is wider, or leave the level out"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Karras(0.0), "rho must be positive and finite, got 0.0"),
        (lambda: Karras(-7.0), "rho must be positive and finite, got -7.0"),
        (lambda: Karras(math.inf), "rho must be positive and finite, got inf"),
        (lambda: Karras(math.nan), "rho must be positive and finite, got nan"),
        (lambda: Polyexponential(0.0), "rho must be positive and finite, got 0.0"),
        (lambda: PowerTime(-1.0), "exponent must be positive and finite, got -1.0"),
        (lambda: Beta(0.0, 0.6), "a must be positive and finite, got 0.0"),
        (lambda: Beta(0.6, math.inf), "b must be positive and finite, got inf"),
        (lambda: Shifted(Karras(), 0.0), "shift must be positive and finite, got 0.0"),
        (lambda: Shifted(Karras(), 1e9)(EDM(), 5), "shift must keep a part of the range of lambda, [-4.382,"),
        (lambda: AlignYourSteps("sd3"), "unknown model 'sd3'; did you mean 'svd'? known: sd15, sdxl, svd"),
        (lambda: AlignYourSteps("svd")(EDM(), 10), f"got lambda = -6.55108, sigma / alpha = 700; {WIDE}"),
        (lambda: AlignYourSteps()(EDM(0.1, 80.0), 10), "sigma / alpha in [0.1, 80], got lambda = 3.54"),
        (lambda: AtTimes([0.9]), "times must be at least 2, got [0.9]"),
        (lambda: AtTimes([0.9, 0.1])(VPSDE(), 5), "listed levels make 1 steps, not 5"),
        (lambda: AtSigmas([0.9]), "sigmas must be at least 2, got [0.9]"),
        (lambda: AtSigmas([2.0, 2.0]), "sigmas must strictly fall and be positive, got 2.0 before 2.0"),
        (lambda: AtSigmas([2.0, 0.0]), "sigmas must strictly fall and be positive, got 2.0 before 0.0"),
        (lambda: AtSigmas([math.nan, 1.0]), "must strictly fall and be positive, got nan before 1.0"),
        (lambda: AtSigmas([90.0, 1.0])(EDM(), 1), f"sigma / alpha = 90; {WIDE}"),
        (lambda: AtLambdas([1.0]), "lams must be at least 2, got [1.0]"),
        (lambda: AtLambdas([1.0, 0.5]), "lams must strictly rise, got 1.0 before 0.5"),
        (lambda: AtLambdas([0.0, 9.0])(EDM(), 1), "levels must be in [-4.38203, 6.21461] of lambda"),
        (lambda: AtLambdas([-math.inf, 1.0])(EDM(), 1), "got lambda = -inf, sigma / alpha = inf"),
        (lambda: Clipped(Karras(), 1.0, 1.0), "lam_min must be less than lam_max, got 1.0 and 1.0"),
        (lambda: Clipped(Karras(), 7.0)(EDM(), 5), "lam_min and lam_max must leave a part of [-4.382"),
        (lambda: Refined(Karras(), 0), "parts must be at least 1, got 0"),
        (lambda: Joined(Karras(), Karras(), 0.0, 1.0), "share must be in (0, 1), got 1.0"),
        (lambda: Joined(Karras(), Karras(), 9.0)(EDM(), 5), "lam must be in (-4.382, 6.215) for EDM"),
        (lambda: gits(mixture, normal(3), VPSDE(), fine=0), "fine must be at least 1, got 0"),
        (lambda: gits(mixture, normal(3), VPSDE(), coeff=0.0), "coeff must be positive and finite, got 0.0"),
        (lambda: gits(mixture, torch.tensor(1.0), VPSDE()), "x must be states (B, ...), got a single number"),
        (lambda: spacing_of("shifted:spacing=karas"), "did you mean 'karras'?"),
        (lambda: spacing_of("shifted:shift=-1"), "shift must be positive and finite, got -1"),
        (lambda: spacing_of("align-your-steps:model=1"), "option model: input should be a valid string"),
    ],
)  # fmt: skip
def test_what_is_no_spacing_raises(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_parts_that_are_no_integer_are_refused():
    with pytest.raises(TypeError, match=r"parts must be an integer, got 1\.5"):
        Refined(Karras(), 1.5)
