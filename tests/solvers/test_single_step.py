"""Singlestep solvers of the probability-flow ODE, and the classics with constant weights.

What is written out here is in float64, from the papers' own formulas and variables, and shares no code with
the library but the exact denoiser.
"""

import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Karras,
    Level,
    Mixture,
    Plan,
    RectifiedFlow,
    Tape,
    UniformLambda,
    UniformTime,
    integrate,
    iterate,
)
from scoresde.plans.tape import Solver
from scoresde.solvers.dpm import DPMFast, DPMSolver
from scoresde.solvers.dpmpp import DPMSolverPP
from scoresde.solvers.first_order import DDIM
from scoresde.solvers.pndm import IPNDM, PNDM
from scoresde.solvers.runge_kutta import ExponentialRK4, Heun, Midpoint, RungeKutta4, phi
from scoresde.spacings import AtTimes, Grid, QuadraticTime, Spacing
from tests.problems import SDES, TABLES, frechet, law, mixture, normal, point_mass
from tests.solvers.test_order import measured_order

SOLVERS: dict[str, Solver] = {
    "dpm2, r = 0.7": DPMSolver(2, 0.7, "taylor"),
    "dpm3, r = 0.2": DPMSolver(3, 0.2),
    "dpm3, taylor": DPMSolver(3, form="taylor"),
    "dpmpp-2s": DPMSolver(2, prediction="data"),
    "dpmpp-2s, r = 0.3": DPMSolver(2, 0.3, "taylor", "data"),
    "dpmpp-3s": DPMSolver(3, prediction="data"),
    "dpmpp-3s, r = 0.8": DPMSolver(3, 0.8, "taylor", "data"),
    "midpoint": Midpoint(),
    "ralston": Midpoint(2 / 3),
    "midpoint in lambda": Midpoint(variable="lambda"),
    "midpoint in lambda, r = 0.7": Midpoint(0.7, "lambda"),
    "rk4": RungeKutta4(),
    "exp-rk4": ExponentialRK4(),
    "pndm": PNDM(),
    "ipndm-2": IPNDM(2),
    "ipndm-3": IPNDM(3),
    "ipndm-4": IPNDM(4),
}
ALL = SOLVERS | {
    "dpm-fast": DPMFast(),
    "dpm-fast, taylor": DPMFast("noise"),
    "dpm-fast on noise": DPMFast("noise", "standard"),
    "ipndm-1": IPNDM(1),
}
# Those that the tests of the whole registry do not see.
VARIANTS = {name: solver for name, solver in ALL.items() if solver not in TABLES.values()}


# Order of convergence.

# Next to h^p stands C h^(p + 1): from 40 to 80 steps it moves the measured order by nearly 0.06 p.
AWAY = 0.06

# Where the mixture still matters at the end of a run: at 0.3 two of its parts are one.
SHORT = EDM(0.3, 5.0)


def order_without_reference(solver: Solver, steps: int, spacing: Callable[[int], Any]) -> float:
    """From the distances between runs of n, 2n and 4n steps: the order, whatever it is that they go to."""
    x = 5 * torch.linspace(-2, 2, 41, dtype=torch.float64)
    ends = [
        integrate(Plan.make(solver, SHORT, n, spacing(n)), mixture, x) for n in (steps, 2 * steps, 4 * steps)
    ]
    first, second = ((a - b).abs().mean().item() for a, b in pairwise(ends))
    return math.log2(first / second)


def uneven(n: int) -> Any:
    """Steps in lambda that are long and short by turns, three to one, however many there are."""
    ends = [SHORT.lam(torch.tensor(t, dtype=torch.float64)) for t in (SHORT.t_max, SHORT.t_min)]
    at = torch.tensor([0.0, *(1.0 + 2.0 * (i % 2) for i in range(n))], dtype=torch.float64).cumsum(0)
    times = SHORT.time_of(ends[0] + (ends[1] - ends[0]) * at / at[-1]).tolist()
    return AtTimes([SHORT.t_max, *times[1:-1], SHORT.t_min])


@pytest.mark.parametrize("name", [name for name in SOLVERS if "pndm" not in name])
def test_order_does_not_need_an_even_grid(name: str) -> None:
    solver = SOLVERS[name]
    assert order_without_reference(solver, 40, uneven) == pytest.approx(solver.order, abs=AWAY * solver.order)


@pytest.mark.parametrize("solver", [PNDM(), IPNDM(2), IPNDM(3), IPNDM(4)], ids=str)
def test_constant_weights_need_steps_that_become_alike(solver: Solver) -> None:
    """Order 2 on any spacing by formula, be it uniform in lambda or Karras's; 1 on steps that stay uneven."""
    for spacing in (UniformLambda(), Karras()):
        assert order_without_reference(solver, 40, lambda n, s=spacing: s) == pytest.approx(2, abs=AWAY * 2)
    assert order_without_reference(solver, 40, uneven) == pytest.approx(1, abs=0.1)  # h^2 beside little h


def test_pndm_has_order_4_on_equal_steps_in_rho() -> None:
    """There its weights are the right ones. 0.15: steps as long as the last scale of the mixture."""
    order = order_without_reference(PNDM(), 320, lambda n: Karras(1.0))
    assert order == pytest.approx(4, abs=0.15)


@pytest.mark.parametrize("solver", [DPMFast("noise", "standard"), DPMFast()], ids=["paper", "default"])
def test_dpm_fast_has_the_order_of_its_last_step(solver: Solver) -> None:
    """2, where the run ends while there is something left to decide; beyond, that step's share is small."""
    # 162, 324 and 648 steps all end on steps of order 2 and 1; next to h^2 stands the h^3 of all the others.
    assert order_without_reference(solver, 162, lambda n: UniformLambda()) == pytest.approx(2, abs=0.1)
    assert measured_order(solver, "vp", steps=81) == pytest.approx(2.7, abs=0.1)


@pytest.mark.parametrize("name", VARIANTS)
def test_weak_order_on_gaussian_data(name: str) -> None:
    """The exact law of the output gains at least 2^order; 0.2: the next term of the error."""
    solver = VARIANTS[name]
    errors = [frechet(Plan.make(solver, SDES["vp"], steps, UniformLambda())) for steps in (81, 162)]
    assert math.log2(errors[0] / errors[1]) >= solver.order - 0.2


# The papers' formulas. The same sums in another order: up to 20 steps of roundings, and of the inverses that
# say at which t an inner level is.
SAME = {"rtol": 1e-9, "atol": 1e-9}


def noise_of(x: Tensor, level: Level[float], denoise: Any = mixture) -> Tensor:
    return (x - level.alpha * denoise(x, level)) / level.sigma


def lu_noise(
    x: Tensor,
    t: Level[float],
    s: Level[float],
    inner: Any,
    r: list[float],
    form: str,
    denoise: Any = mixture,
) -> Tensor:
    """A step of 2206.00927, Algorithms 1 (any r1; appendix B) and 2; "taylor" is their code's."""
    h, e, m1 = s.lam - t.lam, noise_of(x, t, denoise), inner[0]
    u1 = m1.alpha / t.alpha * x - m1.sigma * math.expm1(r[0] * h) * e
    d1 = noise_of(u1, m1, denoise) - e
    base = s.alpha / t.alpha * x - s.sigma * math.expm1(h) * e
    if len(r) == 1 and form == "standard":
        return base - s.sigma / (2 * r[0]) * math.expm1(h) * d1
    phi2 = math.expm1(h) / h - 1
    if len(r) == 1:
        return base - s.sigma / r[0] * phi2 * d1
    m2, k = inner[1], r[1] * h
    u2 = (
        m2.alpha / t.alpha * x
        - m2.sigma * math.expm1(k) * e
        - m2.sigma * r[1] / r[0] * (math.expm1(k) / k - 1) * d1
    )
    d2 = noise_of(u2, m2, denoise) - e
    if form == "standard":
        return base - s.sigma / r[1] * phi2 * d2
    first = (r[1] / r[0] * d1 - r[0] / r[1] * d2) / (r[1] - r[0])
    second = 2 * (d2 / r[1] - d1 / r[0]) / (r[1] - r[0])
    return base - s.sigma * phi2 * first - s.sigma * (phi2 / h - 0.5) * second


def lu_data(
    x: Tensor,
    t: Level[float],
    s: Level[float],
    inner: Any,
    r: list[float],
    form: str,
    denoise: Any = mixture,
) -> Tensor:
    """A step of 2211.01095, Algorithm 1 (any r1), and its extension to order 3 in their code."""
    h, d, m1 = s.lam - t.lam, denoise(x, t), inner[0]
    u1 = m1.sigma / t.sigma * x - m1.alpha * math.expm1(-r[0] * h) * d
    d1 = denoise(u1, m1) - d
    base = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * d
    if len(r) == 1 and form == "standard":
        return base - s.alpha / (2 * r[0]) * math.expm1(-h) * d1
    phi2 = math.expm1(-h) / h + 1
    if len(r) == 1:
        return base + s.alpha / r[0] * phi2 * d1
    m2, k = inner[1], r[1] * h
    u2 = (
        m2.sigma / t.sigma * x
        - m2.alpha * math.expm1(-k) * d
        + m2.alpha * r[1] / r[0] * (math.expm1(-k) / k + 1) * d1
    )
    d2 = denoise(u2, m2) - d
    if form == "standard":
        return base + s.alpha / r[1] * phi2 * d2
    first = (r[1] / r[0] * d1 - r[0] / r[1] * d2) / (r[1] - r[0])
    second = 2 * (d2 / r[1] - d1 / r[0]) / (r[1] - r[0])
    return base + s.alpha * phi2 * first - s.alpha * (phi2 / h - 0.5) * second


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("form", ["standard", "taylor"])
@pytest.mark.parametrize("on", ["noise", "data"])
def test_dpm_solvers_are_those_of_their_papers(on: str, form: str, order: int, sde: str) -> None:
    step = lu_noise if on == "noise" else lu_data
    for ratio in (0.5, 0.3):
        r = [ratio] if order == 2 else [ratio * 2 / 3, 2 / 3]
        grid = Grid.build(SDES[sde], 10, Karras())
        x = ours = grid.levels[0].sigma * normal(20)
        for t, s in grid.steps():
            inner = grid.at([t.lam + c * (s.lam - t.lam) for c in r])
            x = step(x, t, s, inner, r, form)
        plan = Plan.make(DPMSolver(order, ratio, form, on), SDES[sde], 10, Karras())
        torch.testing.assert_close(integrate(plan, mixture, ours), x, **SAME)


def orders_of_dpm_fast(calls: int) -> list[int]:
    """2206.00927, section 3.4: K = floor(calls / 3) + 1 steps."""
    k = calls // 3 + 1
    return [3] * (k - 2) + [2, 1] if calls % 3 == 0 else [3] * (k - 1) + [calls % 3]


def lus_times(sde: SDE, skip: str, n: int) -> list[float]:
    """The spacings of their code: n + 1 times."""
    if skip == "time_uniform":
        return np.linspace(sde.t_max, sde.t_min, n + 1).tolist()
    if skip == "time_quadratic":
        return (np.linspace(sde.t_max**0.5, sde.t_min**0.5, n + 1) ** 2).tolist()
    first, last = sde.lam_ends()
    inner = sde.time_of(torch.linspace(first, last, n + 1, dtype=torch.float64)[1:-1]).tolist()
    return [sde.t_max, *inner, sde.t_min]


def dpm_fast_of_lu(x: Tensor, sde: SDE, skip: str, calls: int, on: str, form: str, denoise: Any) -> Tensor:
    """Their singlestep run of order 3: for logSNR the outer times are a spacing of their own."""
    step, orders = lu_noise if on == "noise" else lu_data, orders_of_dpm_fast(calls)
    if skip == "logSNR":
        outer = lus_times(sde, skip, len(orders))
    else:
        outer = [lus_times(sde, skip, calls)[i] for i in np.cumsum([0, *orders])]
    for order, (t, s) in zip(
        orders, pairwise(sde.levels(torch.tensor(outer, dtype=torch.float64))), strict=True
    ):
        h, r = s.lam - t.lam, {1: [], 2: [0.5], 3: [1 / 3, 2 / 3]}[order]
        if order > 1:
            inner = Grid(sde, (t, s)).at([t.lam + c * h for c in r])
            x = step(x, t, s, inner, r, form, denoise)
        elif on == "data":
            x = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * denoise(x, t)
        else:
            eps = (x - t.alpha * denoise(x, t)) / t.sigma
            x = s.alpha / t.alpha * x - s.sigma * math.expm1(h) * eps
    return x


LUS: dict[str, Spacing] = {
    "logSNR": UniformLambda(),
    "time_uniform": UniformTime(),
    "time_quadratic": QuadraticTime(),
}


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("skip", LUS)
@pytest.mark.parametrize("form", ["standard", "taylor"])
@pytest.mark.parametrize("on", ["noise", "data"])
def test_dpm_fast_is_that_of_its_papers_code(on: str, form: str, skip: str, sde: str) -> None:
    """On each of its spacings; of every kind of budget."""
    theirs = "logSNR" if (skip, sde) == ("time_uniform", "ve") else skip  # VE's lambda is linear in t
    for calls in (1, 2, 3, 5, 12, 13):
        plan = Plan.make(DPMFast(on, form), SDES[sde], calls, LUS[skip])
        x = plan.start.sigma * normal(20)
        expected = dpm_fast_of_lu(x, SDES[sde], theirs, calls, on, form, mixture)
        torch.testing.assert_close(integrate(plan, mixture, x), expected, **SAME)


def test_dpm_fast_by_default_is_the_published_one_that_was_better_at_5_calls() -> None:
    """gmm64 of benchmarks/, on which the published DPM-Solver++ (3S, taylor) had the smaller error."""
    means = 0.5 * torch.randn(32, 64, generator=torch.Generator().manual_seed(64), dtype=torch.float64)
    shares = torch.linspace(1, 2, 32, dtype=torch.float64)
    data = Mixture(means, torch.linspace(0.05, 0.25, 32, dtype=torch.float64), shares / shares.sum())
    sde, exact = EDM(), data.denoise
    x = sde.prior_sample(normal(200, 64))
    plan = Plan.within(5, DPMFast(), sde, UniformLambda())
    ours = integrate(plan, exact, x)
    expected = dpm_fast_of_lu(x, sde, "logSNR", 5, "data", "taylor", exact)
    # Sums of numbers of up to 300, each rounded to 1e-14; between two modes the flow parts them.
    assert (ours - expected).square().mean().sqrt() < 1e-12
    fine = integrate(Plan.make(DPMSolverPP(3), sde, 400), exact, x)
    spread = fine.std().item()
    errors = {
        name: (integrate(run, exact, x) - fine).square().mean().sqrt().item() / spread
        for name, run in {
            "default": plan,
            "paper": Plan.within(5, DPMFast("noise", "standard"), sde, UniformLambda()),
        }.items()
    }
    assert errors["default"] < 0.35 < 1.5 < errors["paper"]  # 0.31 and 2.1 measured


def test_dpm_fast_takes_equal_parts_of_a_grid_that_is_even_but_for_its_ends() -> None:
    """From alpha = 0, and to sigma = 0, too: those steps are not of the even part."""
    sde = RectifiedFlow()
    times = sde.time_of(torch.linspace(-2.0, 4.0, 6, dtype=torch.float64)).tolist()
    plan = Plan.make(DPMFast(), sde, 7, AtTimes([1.0, *times]), to_clean=True)
    lams = [level.lam for level in plan.levels]
    assert lams[0] == -math.inf
    # 5 calls within: a step of order 3 and one of order 2, each half of the way.
    assert lams[1:] == pytest.approx([-2, -1, 0, 1, 2.5, 4], abs=1e-12)


# In y = x / alpha and rho = sigma / alpha the equation is dy / drho = (y - D) / rho.


def slope(y: Tensor, rho: float) -> Tensor:
    return (y - mixture(y, Level(math.nan, 1.0, rho, -math.log(rho)))) / rho


def general_second_order(y: Tensor, a: float, b: float, ratio: float) -> Tensor:
    """2206.00364, Algorithm 3: alpha is the ratio."""
    h = b - a
    d = slope(y, a)
    d_inner = slope(y + ratio * h * d, a + ratio * h)
    return y + h * ((1 - 1 / (2 * ratio)) * d + 1 / (2 * ratio) * d_inner)


def classic(y: Tensor, a: float, b: float) -> Tensor:
    h = b - a
    k1 = slope(y, a)
    k2 = slope(y + h / 2 * k1, a + h / 2)
    k3 = slope(y + h / 2 * k2, a + h / 2)
    k4 = slope(y + h * k3, b)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def run_in_rho(solver: Solver, sde: SDE, steps: Callable[[Tensor, list[float]], Tensor]) -> None:
    """Assert that a run of the solver is that of a method in y and rho."""
    levels = Grid.build(sde, 20, Karras()).levels
    rhos = [level.sigma / level.alpha for level in levels]
    y = rhos[0] * normal(20)
    ours = integrate(Plan.make(solver, sde, 20, Karras()), mixture, levels[0].alpha * y)
    torch.testing.assert_close(ours / levels[-1].alpha, steps(y, rhos), **SAME)


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("ratio", [1 / 2, 2 / 3, 0.2])
def test_midpoint_is_algorithm_3_of_karras(ratio: float, sde: str) -> None:
    def steps(y: Tensor, rhos: list[float]) -> Tensor:
        for a, b in pairwise(rhos):
            y = general_second_order(y, a, b, ratio)
        return y

    run_in_rho(Midpoint(ratio), SDES[sde], steps)


@pytest.mark.parametrize("sde", SDES)
def test_midpoint_in_lambda_is_dpm_2_of_k_diffusion(sde: str) -> None:
    def steps(y: Tensor, rhos: list[float]) -> Tensor:
        for a, b in pairwise(rhos):
            m = math.sqrt(a * b)
            y = y + (b - a) * slope(y + (m - a) * slope(y, a), m)
        return y

    run_in_rho(Midpoint(variable="lambda"), SDES[sde], steps)


def test_heun_is_the_end_of_that_family() -> None:
    def steps(y: Tensor, rhos: list[float]) -> Tensor:
        for a, b in pairwise(rhos):
            y = general_second_order(y, a, b, 1.0)
        return y

    run_in_rho(Heun(), VPSDE(), steps)


@pytest.mark.parametrize("sde", SDES)
def test_rk4_is_the_classic_method(sde: str) -> None:
    def steps(y: Tensor, rhos: list[float]) -> Tensor:
        for a, b in pairwise(rhos):
            y = classic(y, a, b)
        return y

    run_in_rho(RungeKutta4(), SDES[sde], steps)


BASHFORTH = ([1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24])


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("points", [1, 2, 3, 4])
def test_ipndm_is_adams_bashforth(points: int, sde: str) -> None:
    def steps(y: Tensor, rhos: list[float]) -> Tensor:
        past: list[Tensor] = []
        for a, b in pairwise(rhos):
            past.append(slope(y, a))
            weights = BASHFORTH[min(points, len(past)) - 1]
            y = y + (b - a) * sum(w * past[-1 - i] for i, w in enumerate(weights))
        return y

    run_in_rho(IPNDM(points), SDES[sde], steps)


@pytest.mark.parametrize("k", range(1, 5))
def test_the_weights_of_equal_steps_are_adams_and_bashforths(k: int) -> None:
    """The integral over [0, 1] of the polynomial through values at 0, -1, -2, ..."""
    for i, weight in enumerate(BASHFORTH[k - 1]):
        basis = np.poly1d([1.0])
        for j in range(k):
            if j != i:
                basis = basis * np.poly1d([1.0, j]) / (j - i)
        assert weight == pytest.approx(basis.integ()(1.0), abs=1e-14)  # a dozen roundings of numbers near 1


def transfer(x: Tensor, e: Tensor, a: float, b: float) -> Tensor:
    """2202.09778, eq. 11: phi(x, e, t, t - delta), a and b the alpha-bars at both."""
    on_x = x / (math.sqrt(a) * (math.sqrt(b) + math.sqrt(a)))
    on_e = e / (math.sqrt(a) * (math.sqrt((1 - b) * a) + math.sqrt((1 - a) * b)))
    return x + (b - a) * (on_x - on_e)


def test_pndm_is_algorithm_2_of_its_paper() -> None:
    """In its alpha-bar, on the VP process; the half step is our own, the middle in sigma / alpha."""
    sde = VPSDE()
    grid = Grid.build(sde, 20, UniformTime())
    x = ours = normal(20)
    past: list[Tensor] = []
    for i, (t, s) in enumerate(grid.steps()):
        a, b, e = t.alpha**2, s.alpha**2, noise_of(x, t)
        past.append(e)
        if i < 3:
            (m,) = grid.at([-math.log((t.sigma / t.alpha + s.sigma / s.alpha) / 2)])
            e2 = noise_of(transfer(x, e, a, m.alpha**2), m)
            e3 = noise_of(transfer(x, e2, a, m.alpha**2), m)
            e4 = noise_of(transfer(x, e3, a, b), s)
            mean = (e + 2 * e2 + 2 * e3 + e4) / 6
        else:
            mean = (55 * past[-1] - 59 * past[-2] + 37 * past[-3] - 9 * past[-4]) / 24
        x = transfer(x, mean, a, b)
    plan = Plan.make(PNDM(), sde, 20, UniformTime())
    assert plan.nfe == 3 * 4 + 17
    # alpha-bar of 1e-5 at one end, 1 - alpha-bar of as little at the other: five digits less.
    torch.testing.assert_close(integrate(plan, mixture, ours), x, rtol=1e-8, atol=1e-8)


# The exponential method, by the conditions of Hochbruck & Ostermann 2005.

NODES = [0.0, 0.5, 0.5, 1.0, 0.5]


@cache
def exact_phi(k: int, z: float) -> float:
    """phi_k(z) = sum_i z^i / (i + k)! with 60 digits, of which the terms, up to e^20, use 9."""
    with localcontext(prec=60):
        total = term = 1 / Decimal(math.factorial(k))
        for i in range(1, 100):
            term *= Decimal(z) / (i + k)
            total += term
        return float(total)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_phi_loses_no_digits(k: int) -> None:
    assert phi(k, 0.0) == 1 / math.factorial(k)
    for size in [*np.logspace(-12, 1.3, 60), 0.9999999, 1.0, 1.0000001]:
        for z in (size, -size):
            # Just beyond 1 each of four steps of the recurrence loses two bits.
            assert phi(k, z) == pytest.approx(exact_phi(k, z), rel=2**-44)


def test_phi_0_is_the_exponential() -> None:
    for z in (-3.0, -0.2, 0.0, 0.7, 2.5):
        assert phi(0, z) == pytest.approx(math.exp(z), rel=1e-15)


@cache
def tableau(h: float) -> tuple[np.ndarray, np.ndarray]:
    """a(-h) and b(-h) of a step of length h in lambda, read from the solver's own table.

    At alpha = 1 a row is e^(-c h) x + h sum_j a_j d_j.
    """
    grid = Grid.build(EDM(0.01, 20.0), 1, AtTimes([10.0, 10.0 * math.exp(-h)]))
    tape = Tape()
    ExponentialRK4().solve(tape, tape.start(), grid)
    rows = []
    for line in tape.lines:
        weights = dict(line.row)
        c = 1.0 if line.level is None else -math.log(line.level.sigma / 10.0) / h
        # It cancels in a row's D_1 - D_1: sigma of 10 beside steps of h.
        assert weights.pop("x0") == pytest.approx(math.exp(-c * h), abs=1e-14)
        rows.append([weights.get(f"d{j}", 0.0) / h for j in range(5)])
        assert line.level is None or c == pytest.approx(NODES[len(rows) - 1], abs=1e-12 / h)
    return np.array(rows[:5]), np.array(rows[5])


@cache
def psi(j: int, h: float) -> np.ndarray:
    """psi_(j, i)(-h) = phi_j(-c_i h) c_i^j - sum_k a_ik c_k^(j - 1) / (j - 1)!, of every stage i."""
    a, _ = tableau(h)
    c = np.array(NODES)
    exact = np.array([exact_phi(j, -ci * h) for ci in NODES]) * c**j
    return exact - a @ c ** (j - 1) / math.factorial(j - 1)


LENGTHS = [0.05, 0.6, 1.9, 4.0]
ZERO = 1e-13  # sums of five weights of size 1, each with a few roundings, over h of 0.05 at least


def test_exp_rk4_has_stiff_order_4() -> None:
    """Every condition of Table 5.1, those of order 4 in the weak form that the theorem asks for.

    The operators A and J of the conditions need not commute, so the argument of each function is its own.
    """
    c = np.array(NODES)
    # b(0): the weights of Simpson's rule. h at 1e-4 leaves a difference of that size.
    _, b_small = tableau(1e-4)
    at_0 = np.array([1 / 6, 0, 0, 1 / 6, 2 / 3])
    assert b_small == pytest.approx(at_0, abs=2e-4)
    assert (at_0 * c**3).sum() / 6 == pytest.approx(exact_phi(4, 0.0), abs=1e-15)  # 4, weak
    for h in LENGTHS:
        a, b = tableau(h)
        row_sums = [ci * exact_phi(1, -ci * h) for ci in NODES]
        assert a.sum(1) == pytest.approx(row_sums, abs=ZERO)  # 2
        for k in (0, 1, 2):  # 1, 2 and 3
            exact = exact_phi(k + 1, -h)
            assert (b * c**k).sum() / math.factorial(k) == pytest.approx(exact, abs=ZERO)
        assert (at_0 * psi(3, h)).sum() == pytest.approx(0, abs=ZERO)  # 4, weak
        for other in LENGTHS:
            assert (b * psi(2, other)).sum() == pytest.approx(0, abs=ZERO)  # 3
            assert (b * c * psi(2, other)).sum() == pytest.approx(0, abs=ZERO)  # 4
            for third in LENGTHS:
                assert b @ tableau(other)[0] @ psi(2, third) == pytest.approx(0, abs=ZERO)  # 4


def test_those_conditions_tell_a_method_that_is_not_stiff() -> None:
    """Were psi_2 zero at all stages, or the exact functions too weak a yardstick, anything would pass."""
    assert abs(psi(2, 0.6)[1:3]).min() > 1e-2
    assert abs(psi(3, 0.6)[3:]).min() > 1e-3


@pytest.mark.parametrize("sde", SDES)
def test_exp_rk4_is_equation_5_19(sde: str) -> None:
    """Its tableau as printed, for y' = -y + D, y = x / alpha, in lambda."""
    grid = Grid.build(SDES[sde], 20, UniformLambda())
    x0 = grid.levels[0].sigma * normal(20)
    y = x0 / grid.levels[0].alpha
    for t, s in grid.steps():
        h = s.lam - t.lam
        p = {(k, c): exact_phi(k, -c * h) for k in (1, 2, 3) for c in (0.5, 1.0)}
        a52 = p[2, 0.5] / 2 - p[3, 1] + p[2, 1] / 4 - p[3, 0.5] / 2
        a54 = p[2, 0.5] / 4 - a52
        a = [
            [],
            [p[1, 0.5] / 2],
            [p[1, 0.5] / 2 - p[2, 0.5], p[2, 0.5]],
            [p[1, 1] - 2 * p[2, 1], p[2, 1], p[2, 1]],
            [p[1, 0.5] / 2 - 2 * a52 - a54, a52, a52, a54],
            [p[1, 1] - 3 * p[2, 1] + 4 * p[3, 1], 0, 0, -p[2, 1] + 4 * p[3, 1], 4 * p[2, 1] - 8 * p[3, 1]],
        ]
        outputs: list[Tensor] = []
        for c, row in zip([*NODES, 1.0], a, strict=True):
            u = math.exp(-c * h) * y + h * sum(w * d for w, d in zip(row, outputs, strict=True))
            rho = math.exp(-t.lam - c * h)
            outputs.append(mixture(u, Level(math.nan, 1.0, rho, -math.log(rho))))
        y = u
    ours = integrate(Plan.make(ExponentialRK4(), SDES[sde], 20, UniformLambda()), mixture, x0)
    torch.testing.assert_close(ours / grid.levels[-1].alpha, y, **SAME)


# Both ends, budgets and levels.


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", [*SDES, "from alpha = 0"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_point_mass_is_carried_exactly(name: str, sde: str, to_clean: bool) -> None:
    process = SDES.get(sde, RectifiedFlow())
    for steps in (2, 5, 13):
        plan = Plan.make(
            VARIANTS[name], process, steps, Karras() if sde in SDES else UniformTime(), to_clean=to_clean
        )
        # Each step rounds numbers of the size of sigma at the start, 80 at most; there are 13 at most.
        got = law(plan, point_mass, plan.start.alpha, plan.start.sigma)
        assert got == pytest.approx((plan.end.alpha, plan.end.sigma), abs=1e-12 * max(1, plan.start.sigma))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_to_clean_is_the_denoiser(name: str) -> None:
    plan = Plan.make(VARIANTS[name], EDM(), 8, to_clean=True)
    *_, before, after = iterate(plan, mixture, 80 * normal(9))
    torch.testing.assert_close(after, mixture(before, plan.levels[-1]), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ALL)
def test_a_step_from_alpha_0_is_ddims(name: str) -> None:
    """And what comes after it knows nothing of it: the rest of the run is the run of the rest."""
    whole = Plan.make(ALL[name], RectifiedFlow(), 8, UniformTime())
    x = normal(20)
    ours = integrate(whole, mixture, x)
    first = next(iterate(Plan.make(DDIM(), RectifiedFlow(), 8, UniformTime()), mixture, x))
    times = torch.linspace(1.0, whole.end.t, 9, dtype=torch.float64).tolist()
    rest = Plan.make(ALL[name], RectifiedFlow(), 7, AtTimes(times[1:]))
    torch.testing.assert_close(integrate(rest, mixture, first), ours, rtol=1e-12, atol=1e-12)  # the roundings


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("dpmpp-2s", lambda n: 2 * n),
        ("dpmpp-3s", lambda n: 3 * n),
        ("midpoint", lambda n: 2 * n),
        ("rk4", lambda n: 4 * n),
        ("exp-rk4", lambda n: 5 * n),
        ("pndm", lambda n: 3 * min(n, 3) + n),
        ("ipndm-4", lambda n: n),
        ("dpm-fast", lambda n: n),
    ],
)
def test_calls(name: str, calls: Callable[[int], int], to_clean: bool) -> None:
    for steps in range(1, 14):
        plan = Plan.make(ALL[name], VPSDE(), steps + to_clean, to_clean=to_clean)
        assert plan.nfe == calls(steps) + to_clean


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", [VPSDE(), RectifiedFlow()])
@pytest.mark.parametrize("on", ["noise", "data"])
def test_dpm_fast_uses_every_budget_by_its_orders(on: str, sde: SDE, to_clean: bool) -> None:
    """As many calls as were asked for, at once; orders 3, ..., 3 and 2, 1, or 1, or 2 in between the ends."""
    from_0 = isinstance(sde, RectifiedFlow)
    for nfe in range(1 + to_clean, 15):
        plan = Plan.within(nfe, DPMFast(on), sde, to_clean=to_clean)
        assert plan.nfe == nfe
        kept = [i for i, line in enumerate(plan.lines) if line.level is None]
        orders = [j - i - 1 for i, j in pairwise([-1, *kept])]
        assert sum(orders) == nfe
        inner = orders[from_0 : len(orders) - to_clean]
        assert orders[:from_0] == [1] * from_0
        assert orders[len(orders) - to_clean :] == [1] * to_clean
        n = sum(inner)
        expected = {0: Counter({3: n // 3 - 1, 2: 1, 1: 1}), 1: Counter({3: n // 3, 1: 1})}.get(
            n % 3, Counter({3: n // 3, 2: 1})
        )
        assert Counter(inner) == (+expected if n else Counter())
        assert inner == sorted(inner, reverse=True)


def test_the_network_is_called_where_the_methods_say() -> None:
    grid = Grid.build(VPSDE(), 7, UniformLambda())
    # Inverses of lambda, to a few roundings of numbers near 5.
    lams = lambda plan: pytest.approx([level.lam for level in plan.levels], abs=1e-12)  # noqa: E731
    # In equal steps in lambda the three steps of DPM-fast, of orders 3, 3 and 1, are equal in lambda, too.
    first, step = grid.levels[0].lam, (grid.levels[-1].lam - grid.levels[0].lam) / 3
    assert [first + i / 3 * step for i in range(7)] == lams(Plan.make(DPMFast(), VPSDE(), 7, UniformLambda()))
    t, s = Grid.build(VPSDE(), 1, UniformLambda()).levels
    h, rho = s.lam - t.lam, [level.sigma / level.alpha for level in (t, s)]
    at = lambda r: -math.log(rho[0] + r * (rho[1] - rho[0]))  # noqa: E731
    assert [t.lam, at(0.3)] == lams(Plan.make(Midpoint(0.3), VPSDE(), 1))
    assert [t.lam, at(0.5), at(0.5), s.lam] == lams(Plan.make(RungeKutta4(), VPSDE(), 1))
    assert [t.lam, at(0.5), at(0.5), s.lam] == lams(Plan.make(PNDM(), VPSDE(), 1))
    assert [t.lam + c * h for c in NODES] == lams(Plan.make(ExponentialRK4(), VPSDE(), 1))
    assert [t.lam + c * h for c in (0, 0.2, 2 / 3)] == lams(Plan.make(DPMSolver(3, 0.3), VPSDE(), 1))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DPMSolver(4), r"order must be 1, 2 or 3, got 4"),
        (lambda: DPMSolver(2, 0.0), r"ratio must be between 0 and 1.*got 0\.0"),
        (lambda: DPMSolver(2, 1.0), r"ratio must be between 0 and 1.*got 1\.0"),
        (lambda: DPMSolver(2, math.nan), r"ratio must be between 0 and 1.*got nan"),
        (lambda: DPMSolver(form="heun"), r"form must be 'standard' or 'taylor', got 'heun'"),
        (lambda: DPMSolver(prediction="x0"), r"prediction must be 'noise' or 'data', got 'x0'"),
        (lambda: DPMFast(form="heun"), r"form must be 'standard' or 'taylor', got 'heun'"),
        (lambda: DPMFast("score"), r"on must be 'noise' or 'data', got 'score'"),
        (lambda: Midpoint(-0.5), r"ratio must be between 0 and 1.*got -0\.5"),
        (lambda: Midpoint(variable="t"), r"variable must be 'rho' or 'lambda', got 't'"),
        (lambda: IPNDM(0), r"points must be 1, 2, 3 or 4, got 0"),
        (lambda: IPNDM(5), r"points must be 1, 2, 3 or 4, got 5"),
    ],
)
def test_what_a_solver_does_not_take(make: Callable[[], Solver], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
