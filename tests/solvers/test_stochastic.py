"""Solvers of the reverse SDE, and wrappers that add noise: their papers' formulas, laws and orders."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Cosine,
    Karras,
    Level,
    Plan,
    RectifiedFlow,
    UniformLambda,
    UniformTime,
    integrate,
    iterate,
)
from scoresde.plans.names import kind_of
from scoresde.plans.tape import Solver
from scoresde.solvers import DDIM, ODE, DPMSolverPP, EulerMaruyama, ExponentialAdams, PredictorCorrector, UniC
from scoresde.solvers.er_sde import ERSDE, er_sde_5
from scoresde.solvers.runge_kutta import Heun
from scoresde.solvers.seeds import SEEDS
from scoresde.solvers.stochastic import SRA, DPMSolverPPSDE, SDEDPMSolver
from scoresde.solvers.wrappers import Churn, Restart
from scoresde.spacings import AtSigmas, Grid, Spacing
from tests.problems import MEAN, SDES, STD, frechet, gaussian, law, mixture, normal, point_mass, spread


def rho(level: Level[float]) -> float:
    return level.sigma / level.alpha


def half_eta(r: float) -> float:
    return r**1.5


def square(r: float) -> float:
    return r**2


def identity(r: float) -> float:
    return r


# Each with the k of its SDE dy = k (y - D) d log rho + noise: 1 + eta.
REVERSE: dict[str, tuple[Solver, float]] = {
    "exponential-em": (DPMSolverPP(1, 0.6), 1.6),
    "dpmpp-sde": (DPMSolverPPSDE(), 2),
    "dpmpp-sde:ratio=0.3,eta=0.5": (DPMSolverPPSDE(0.3, 0.5), 1.5),
    "dpmpp-2s": (DPMSolverPPSDE(eta=0.0), 1),
    "sra": (SRA(), 2),
    "sde-dpm-1": (SDEDPMSolver(1), 2),
    "sde-dpm-2m": (SDEDPMSolver(2), 2),
    "seeds-1": (SEEDS(1), 2),
    "seeds-2": (SEEDS(2), 2),
    "seeds-3": (SEEDS(3), 2),
    "er-sde-1": (ERSDE(1, half_eta), 1.5),
    "er-sde-2": (ERSDE(2, half_eta), 1.5),
    "er-sde-3": (ERSDE(3, half_eta), 1.5),
}
ON_DATA = [name for name in REVERSE if not name.startswith(("sde-dpm", "seeds"))]
WRAPPED: dict[str, Solver] = {
    "churn": Churn(),
    "churn-dpmpp-2s": Churn(DPMSolverPPSDE(eta=0.0), 4.0, 0.1, 50.0),
    "restart": Restart(),
    "restart-2m": Restart(DPMSolverPP(2), ((1.0, 2.0, 2, 1), (0.05, 0.5, 3, 2))),
    "er-sde-3": ERSDE(),
}


def slopes(solver: Solver, k: float, sde: SDE, steps: int) -> list[float]:
    """Of the two numbers that make the law on Gaussian data: what a start off the mean leaves, the spread.

    On N(m, s^2) an error in x / alpha falls by ((rho_s^2 + s^2) / (rho_t^2 + s^2))^(k / 2). For k = 2 the
    data is a martingale, and the data solvers have the mean to rounding: then of the spread alone.
    """
    errors = []
    for n in (steps, 2 * steps):
        plan = Plan.make(solver, sde, n, UniformLambda())
        start, end = plan.start, plan.end
        mean, std = law(plan, gaussian, start.alpha * (MEAN + 1), spread(start))
        exact = ((rho(end) ** 2 + STD**2) / (rho(start) ** 2 + STD**2)) ** (k / 2)
        errors.append((abs((mean / end.alpha - MEAN) / exact - 1), abs(std - spread(end))))
    # 1e-8: the tiny share that is left of the start is the difference of numbers of size 1.
    return [math.log2(first / second) for first, second in zip(*errors, strict=True) if second > 1e-8]


@pytest.mark.parametrize("sde", ["vp", "edm"])
@pytest.mark.parametrize("name", REVERSE)
def test_the_weak_order_is_the_one_stated(name: str, sde: str) -> None:
    solver, k = REVERSE[name]
    # SEEDS-3 and ER-SDE-3 have the mean to order 3; the spread is what order 2 is for, 2.13 at these steps.
    # The spread of SEEDS-2 has order 3, and that of order-1 methods in the noise 2, by luck of this data.
    assert min(slopes(solver, k, SDES[sde], 160)) == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("solver", [ERSDE(i) for i in (1, 2, 3)], ids=repr)
def test_er_sde_with_its_own_phi_has_at_least_its_order(solver: ERSDE) -> None:
    """Near the data phi is nearly 11 rho, the ODE's, and the third term is of use: 3 is measured."""
    errors = [frechet(Plan.make(solver, VPSDE(), steps, UniformLambda())) for steps in (80, 160)]
    assert math.log2(errors[0] / errors[1]) >= solver.terms - 0.1


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_er_sde_on_the_ode_has_all_its_orders(terms: int) -> None:
    plans = [Plan.make(ERSDE(terms, identity), VPSDE(), steps, UniformLambda()) for steps in (80, 160)]
    assert not plans[0].stochastic
    errors = [frechet(plan) for plan in plans]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(terms, abs=0.1)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("name", [*ON_DATA, *WRAPPED])
def test_a_point_mass_is_carried_exactly(name: str, sde: str, to_clean: bool) -> None:
    """All noise counted, what is added and what is left of the start: the total deviation is sigma."""
    solver = WRAPPED[name] if name in WRAPPED else REVERSE[name][0]
    for steps, spacing in ((2, UniformLambda()), (9, Karras()), (12, UniformTime())):
        plan = Plan.make(solver, SDES[sde], steps, spacing, to_clean=to_clean)
        mean, std = law(plan, point_mass, plan.start.alpha, plan.start.sigma)
        # Roundings of numbers of the size of sigma / alpha = 150 at most.
        assert mean == pytest.approx(plan.end.alpha, abs=1e-11)
        assert std == pytest.approx(plan.end.sigma, abs=1e-11)


@pytest.mark.parametrize("solver", [SDEDPMSolver(1), SDEDPMSolver(2), SEEDS(1), SEEDS(2), SEEDS(3)], ids=repr)
def test_on_the_noise_a_point_mass_is_carried_to_the_order_only(solver: Solver) -> None:
    errors = []
    for steps in (160, 320):
        plan = Plan.make(solver, VPSDE(), steps, UniformLambda())
        mean, std = law(plan, point_mass, plan.start.alpha, plan.start.sigma)
        errors.append(math.hypot(mean - plan.end.alpha, std - plan.end.sigma))
    assert errors[0] > 1e-7
    # Measured 0.98 and 1.87 to 2.16.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", [*REVERSE, *WRAPPED])
def test_a_run_can_start_where_there_is_no_data(name: str, to_clean: bool) -> None:
    solver = WRAPPED[name] if name in WRAPPED else REVERSE[name][0]
    plan = Plan.make(solver, RectifiedFlow(), 12, UniformTime(), to_clean=to_clean)
    assert plan.start.alpha == 0
    mean, _ = law(plan, point_mass, 0.0, 1.0)
    assert mean == pytest.approx(plan.end.alpha, abs=1e-12)  # roundings of numbers of size 1
    if to_clean:  # the last state is the denoiser
        assert dict(plan.lines[-1].row) == {plan.lines[-2].name: 1.0}


# What follows is written from the papers' own formulas, in y = x / alpha and rho = sigma / alpha.
SAME = {"rtol": 1e-10, "atol": 1e-10}  # the same sums in another order
Draws = Sequence[Tensor]
KARRAS = Karras()


def data(y: Tensor, r: float) -> Tensor:
    """E[x_0 | y] of the mixture."""
    return mixture(y, Level(math.nan, 1.0, r, -math.log(r)))


def noise(y: Tensor, r: float) -> Tensor:
    return (y - data(y, r)) / r


def agree(
    solver: Solver,
    papers: Callable[[Tensor, list[float], Draws], Tensor],
    sde: SDE,
    spacing: Spacing = KARRAS,
    to_clean: bool = False,
) -> None:
    steps, z = 12, [normal(20, seed=i) for i in range(100)]
    levels = Grid.build(sde, steps, spacing, to_clean=to_clean).levels
    y = 2 * rho(levels[0]) * normal(20, seed=999)
    plan = Plan.make(solver, sde, steps, spacing, to_clean=to_clean)
    ours = integrate(plan, mixture, levels[0].alpha * y, lambda i: z[i])
    theirs = papers(y, [rho(level) for level in levels], z)
    torch.testing.assert_close(ours / levels[-1].alpha, theirs, **SAME)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sde", ["vp", "rectified-flow"])
def test_exponential_em_is_stochastic_gddim(sde: str, lam: float) -> None:
    """Zhang et al. 2022 (arXiv 2206.05564, theorem 1), whose lambda squared is eta; 1 is ancestral DDPM."""

    def gddim(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        for i, (a, b) in enumerate(pairwise(rhos)):
            std2 = b**2 * (1 - (b / a) ** (2 * lam**2))
            y = data(y, a) + math.sqrt(b**2 - std2) * noise(y, a) + math.sqrt(std2) * z[i]
        return y

    agree(DPMSolverPP(1, lam**2), gddim, SDES[sde])
    if lam in (0.0, 1.0):
        agree(DDIM(lam), gddim, SDES[sde])


@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_dpmpp_sde_is_k_diffusions_on_the_path_of_the_sde(sde: str) -> None:
    """sample_dpmpp_sde at r = 1/2, eta = 1, with noises correlated as the SDE has them at both levels."""

    def ancestral(y: Tensor, d: Tensor, a: float, b: float, z: Tensor) -> Tensor:
        up = math.sqrt(b**2 * (a**2 - b**2) / a**2)
        down = math.sqrt(b**2 - up**2)
        return down / a * y + (1 - down / a) * d + up * z

    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        for i, (a, b) in enumerate(pairwise(rhos)):
            m, d = math.sqrt(a * b), data(y, a)
            first, second = z[2 * i : 2 * i + 2]
            # The SDE's noise at rho is rho times an Ornstein-Uhlenbeck path: correlation of m and b.
            share = (b / m) ** 2 * (1 - (m / a) ** 2) / (1 - (b / a) ** 2)
            both = math.sqrt(share) * first + math.sqrt(1 - share) * second
            y = ancestral(y, data(ancestral(y, d, a, m, first), m), a, b, both)
        return y

    agree(DPMSolverPPSDE(), papers, SDES[sde])


def test_dpmpp_sde_without_noise_is_dpmpp_2s() -> None:
    """2211.01095, Algorithm 1, with r = 0.3."""

    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        for a, b in pairwise(rhos):
            d, m = data(y, a), a**0.7 * b**0.3
            d_u = data(m / a * y + (1 - m / a) * d, m)
            y = b / a * y + (1 - b / a) * ((1 - 1 / 0.6) * d + d_u / 0.6)
        return y

    agree(DPMSolverPPSDE(0.3, 0.0), papers, VPSDE())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_sde_dpm_solver_is_its_papers(order: int, sde: str) -> None:
    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        before, h_before = None, 0.0
        for i, (a, b) in enumerate(pairwise(rhos)):
            h, e = math.log(a / b), noise(y, a)
            new = y - 2 * b * math.expm1(h) * e + b * math.sqrt(math.expm1(2 * h)) * z[i]
            if before is not None and order == 2:
                new = new - b * math.expm1(h) * (e - before) / (h_before / h)
            y, before, h_before = new, e, h
        return y

    agree(SDEDPMSolver(order), papers, SDES[sde])


def seeds_1(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
    for i, (a, b) in enumerate(pairwise(rhos)):
        h = math.log(a / b)
        y = y - 2 * b * math.expm1(h) * noise(y, a) + b * math.sqrt(math.expm1(2 * h)) * z[i]
    return y


def seeds_2(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
    for i, (a, b) in enumerate(pairwise(rhos)):
        h, m = math.log(a / b), math.sqrt(a * b)
        z1, z2 = z[2 * i : 2 * i + 2]
        u = y - 2 * m * math.expm1(h / 2) * noise(y, a) + m * math.sqrt(math.expm1(h)) * z1
        y = y - 2 * b * math.expm1(h) * noise(u, m)
        y = y + b * (math.sqrt(math.exp(2 * h) - math.exp(h)) * z1 + math.sqrt(math.expm1(h)) * z2)
    return y


def seeds_3(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
    r1, r2 = 1 / 3, 2 / 3
    for i, (a, b) in enumerate(pairwise(rhos)):
        h, e = math.log(a / b), noise(y, a)
        m1, m2 = a * math.exp(-r1 * h), a * math.exp(-r2 * h)
        z1, z2, z3 = z[3 * i : 3 * i + 3]
        n1 = math.sqrt(math.expm1(2 * r1 * h)) * z1
        u1 = y - 2 * m1 * math.expm1(r1 * h) * e + m1 * n1
        d1 = noise(u1, m1) - e
        n2 = math.sqrt(math.exp(2 * r2 * h) - math.exp(2 * (r2 - r1) * h)) * z1
        n2 = n2 + math.sqrt(math.expm1(2 * (r2 - r1) * h)) * z2
        u2 = y - 2 * m2 * math.expm1(r2 * h) * e
        u2 = u2 - 2 * m2 * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1 + m2 * n2
        d2 = noise(u2, m2) - e
        n3 = math.sqrt(math.exp(2 * h) - math.exp(2 * (1 - r1) * h)) * z1
        n3 = n3 + math.sqrt(math.exp(2 * (1 - r1) * h) - math.exp(2 * (1 - r2) * h)) * z2
        n3 = n3 + math.sqrt(math.expm1(2 * (1 - r2) * h)) * z3
        y = y - 2 * b * math.expm1(h) * e - 2 * b / r2 * (math.expm1(h) / h - 1) * d2 + b * n3
    return y


@pytest.mark.parametrize("sde", ["vp", "edm"])
@pytest.mark.parametrize(("stages", "papers"), [(1, seeds_1), (2, seeds_2), (3, seeds_3)])
def test_seeds_is_its_papers(
    stages: int, papers: Callable[[Tensor, list[float], Draws], Tensor], sde: str
) -> None:
    agree(SEEDS(stages), papers, SDES[sde])


@pytest.mark.parametrize("phi", [er_sde_5, square, identity])
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_er_sde_is_its_papers(terms: int, phi: Callable[[float], float]) -> None:
    """The exact solution for a polynomial through the past outputs, integrated by scipy.

    y_s = (phi_s / phi_t) y_t - phi_s integral of D d(1 / phi), and by parts: the paper's terms, but for the
    slope of the third, which is the parabola's.
    """

    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        past: list[tuple[float, Tensor]] = []
        for i, (a, b) in enumerate(pairwise(rhos)):
            past = [(a, data(y, a)), *past][:terms]
            y = phi(b) / phi(a) * y + math.sqrt(max(0, b**2 - (phi(b) / phi(a) * a) ** 2)) * z[i]
            for j, (node, d) in enumerate(past):
                others = [other for k, (other, _) in enumerate(past) if k != j]
                basis = np.poly1d(others, r=True) / np.prod([node - other for other in others])
                slope = basis.deriv()
                area = quad(
                    lambda u, slope=slope: slope(math.exp(u)) * math.exp(u) / phi(math.exp(u)),
                    math.log(b),
                    math.log(a),
                    epsabs=1e-13,
                    epsrel=1e-12,
                )[0]
                y = y + (basis(b) - phi(b) / phi(a) * basis(a) + phi(b) * area) * d
        return y

    # At few steps the first ones are long, and the polynomials' weights large: 1e-10 is of these.
    agree(ERSDE(terms, phi), papers, Cosine(t_min=1e-2), UniformLambda())
    assert Plan.make(ERSDE(terms, phi), EDM(), 5).stochastic == (phi is not identity)


def test_er_sde_of_one_term_and_a_power_is_dpm_solver_pp() -> None:
    a, b = (Plan.make(solver, VPSDE(), 15) for solver in (ERSDE(1, half_eta), DPMSolverPP(1, 0.5)))
    z = [normal(9, seed=i) for i in range(20)]
    ends = [integrate(plan, mixture, normal(9, seed=99), lambda i: z[i]) for plan in (a, b)]
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-12, atol=1e-12)  # roundings


def roessler(
    y: Tensor,
    qs: list[float],
    w: list[tuple[Tensor, Tensor]],
    data: Callable[[Tensor, float], Tensor] = data,
) -> Tensor:
    """SRA1 of Roessler 2010 on dQ = D dq + dw: alpha = (1/3, 2/3), A = 3/4, B = 3/2, noise of constant size.

    ``w`` holds a step's increment I_1 and integral I_10 each.
    """
    big = qs[0] * y
    for (q, q_s), (i1, i10) in zip(pairwise(qs), w, strict=True):
        h = q_s - q
        d = data(big / q, q**-0.5)
        stage, q_m = big + 0.75 * h * d + 1.5 * i10 / h, q + 0.75 * h
        big = big + h * (d + 2 * data(stage / q_m, q_m**-0.5)) / 3 + i1
    return big / qs[-1]


@pytest.mark.parametrize("sde", ["vp", "edm", "rectified-flow"])
def test_sra_is_roesslers_sra1(sde: str) -> None:
    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        qs = [r**-2 for r in rhos]
        h = [b - a for a, b in pairwise(qs)]
        w = [
            (
                math.sqrt(h[i]) * z[2 * i],
                h[i] ** 1.5 * (z[2 * i] + z[2 * i + 1] / math.sqrt(3)) / 2,
            )
            for i in range(len(h))
        ]
        return roessler(y, qs, w)

    agree(SRA(), papers, SDES[sde])


def two_points(y: Tensor, r: float) -> Tensor:
    """E[x_0 | y] of -1 and 1, one as likely as the other."""
    return torch.tanh(y / r**2)


def test_sra_has_strong_order_one_and_a_half() -> None:
    """Against itself on the same path in much finer steps, whose increments and integrals are added up.

    Exponential Euler-Maruyama on that path has 1, as Euler has for additive noise.
    """
    sde, fine, paths = EDM(t_min=0.6, t_max=3.0), 512, 2000
    qs = [level.sigma**-2 for level in Grid.build(sde, fine, UniformLambda()).levels]
    h = torch.tensor(qs, dtype=torch.float64).diff()[:, None]
    z = normal(2, fine, paths)
    i1 = h.sqrt() * z[0]
    i10 = h**1.5 * (z[0] + z[1] / math.sqrt(3)) / 2
    x = 3 * normal(paths, seed=5)
    exact = roessler(x, qs, list(zip(i1, i10, strict=True)), two_points)
    errors: dict[str, list[float]] = {"sra": [], "em": []}
    for steps in (16, 64):
        many = fine // steps
        # Over a longer step I_1 adds up, and I_10 gains h times the path's value at each beginning.
        parts = i1.reshape(steps, many, paths)
        value = parts.cumsum(1) - parts
        area = (i10.reshape(steps, many, paths) + h.reshape(steps, many, 1) * value).sum(1)
        long = h.reshape(steps, many).sum(1)[:, None]
        first = parts.sum(1) / long.sqrt()
        second = (area / long**1.5 * 2 - first) * math.sqrt(3)
        both = torch.stack([first, second], 1).reshape(-1, paths)
        for name, solver, draws in (("sra", SRA(), both), ("em", DPMSolverPP(1, 1.0), first)):
            end = integrate(
                Plan.make(solver, sde, steps, UniformLambda()),
                lambda x, level: two_points(x, level.sigma),
                x,
                lambda i, draws=draws: draws[i],
            )
            errors[name].append((end - exact).square().mean().sqrt().item())
    # From steps of a tenth in lambda to a fortieth: 1.6 and 1.0; over 2,000 paths, the same at both.
    assert math.log2(errors["sra"][0] / errors["sra"][1]) / 2 == pytest.approx(1.6, abs=0.1)
    assert math.log2(errors["em"][0] / errors["em"][1]) / 2 == pytest.approx(1.0, abs=0.1)


def heun(y: Tensor, a: float, b: float) -> Tensor:
    """Karras et al. 2022, a step of Algorithm 2 from the raised level a on."""
    d = noise(y, a)
    guess = y + (b - a) * d
    return y + (b - a) * (d + noise(guess, b)) / 2 if b else guess


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", ["vp", "edm", "rectified-flow"])
def test_churn_is_algorithm_2_of_its_paper(sde: str, to_clean: bool) -> None:
    top = max(rho(level) for level in Grid.build(SDES[sde], 2, UniformLambda()).levels)

    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        drawn = iter(z)
        for a, b in pairwise(rhos):
            gamma = min(4.0 / (len(rhos) - 1), math.sqrt(2) - 1) if 0.05 <= a <= 90 else 0
            up = min(a * (1 + gamma), top)  # our addition
            if up > a:
                y = y + math.sqrt(up**2 - a**2) * 1.007 * next(drawn)
            y = heun(y, up, b)
        return y

    agree(Churn(Heun(), 4.0, 0.05, 90.0, 1.007), papers, SDES[sde], to_clean=to_clean)


def test_churn_calls_the_network_at_the_raised_level_and_no_higher_than_t_max() -> None:
    sde = EDM()
    plan = Plan.make(Churn(DDIM(), s_churn=100.0), sde, 10, Karras())
    plain = Grid.build(sde, 10, Karras()).levels
    assert plan.levels[0] == plain[0]  # at t_max already
    for up, level in zip(plan.levels, plain, strict=False):
        assert up.sigma == pytest.approx(min(80, math.sqrt(2) * level.sigma), rel=1e-12)
    none = Plan.make(Churn(DDIM(), 100.0, 1e3, 1e4), sde, 10, Karras())
    assert none == Plan.make(DDIM(), sde, 10, Karras())  # no level in reach of s_min


def test_the_rates_of_a_raised_level_are_its_own() -> None:
    """Euler-Maruyama reads f and g^2: by hand, from the raised levels."""
    sde = VPSDE()
    plan = Plan.make(Churn(EulerMaruyama(0.0), 2.0), sde, 6, UniformLambda())
    levels = [*Grid.build(sde, 6, UniformLambda()).levels]
    rows = [dict(line.row) for line in plan.lines if line.level is None and "d" in str(line.row)]
    for row, up, s in zip(rows, plan.levels, levels[1:], strict=True):
        beta = 0.1 + 19.9 * up.t
        on_data = (s.t - up.t) * -beta / 2 * up.alpha / up.sigma**2
        (weight,) = (weight for name, weight in row.items() if kind_of(name) == "output")
        assert weight == pytest.approx(on_data, rel=1e-9)  # roundings of 1 - alpha^2 near the data


def test_churn_keeps_the_order_of_a_singlestep_solver_and_not_of_a_multistep_one() -> None:
    for solver, order in ((Churn(), 2), (Churn(DPMSolverPPSDE(eta=0.0)), 2), (Churn(DPMSolverPP(2)), 1)):
        errors = [frechet(Plan.make(solver, VPSDE(), steps, UniformLambda())) for steps in (80, 160)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_restart_is_algorithm_2_of_its_paper(sde: str, to_clean: bool) -> None:
    intervals = ((5.0, 11.0, 3, 2), (0.1, 0.7, 4, 3))

    def papers(y: Tensor, rhos: list[float], z: Draws) -> Tensor:
        drawn = iter(z)
        turns = {min(filter(None, rhos), key=lambda r: abs(math.log(r / low))): i
                 for i, (low, *_) in enumerate(intervals)}  # fmt: skip
        for a, b in pairwise(rhos):
            y = heun(y, a, b)
            if b in turns:
                _, high, steps, repeats = intervals[turns[b]]
                way = [(high ** (1 / 7) + i / steps * (b ** (1 / 7) - high ** (1 / 7))) ** 7
                       for i in range(steps + 1)]  # fmt: skip
                for _ in range(repeats):
                    y = y + math.sqrt(high**2 - b**2) * 1.01 * next(drawn)
                    for up, down in pairwise(way):
                        y = heun(y, up, down)
        return y

    agree(Restart(Heun(), intervals, 1.01), papers, SDES[sde], to_clean=to_clean)


def test_restart_by_default_has_an_interval_by_the_length_of_the_run() -> None:
    """A third of the steps, at least 2; one turn, from 9 steps on two; from 0.5 to a level near 0.05."""
    for n, steps, turns in ((1, 2, 1), (4, 2, 1), (8, 3, 1), (9, 3, 2), (12, 4, 2), (30, 10, 2)):
        plan = Plan.make(Restart(), EDM(), n, UniformLambda())
        assert plan.nfe == n + steps * turns
        at = [level.sigma for level in plan.levels]
        rises = [i for i in range(1, len(at)) if at[i] > at[i - 1]]
        if n >= 4:  # the run is then on its way down when it turns
            assert [at[i] for i in rises] == pytest.approx([0.5] * turns, rel=1e-9)
        near = min(
            Grid.build(EDM(), n, UniformLambda()).levels[1:],
            key=lambda level: abs(level.lam + math.log(0.05)),
        )
        same = Restart(intervals=((near.sigma, 0.5, steps, turns),))
        assert plan == Plan.make(same, EDM(), n, UniformLambda())


@pytest.mark.parametrize("spacing", [UniformLambda(), Karras()], ids=repr)
@pytest.mark.parametrize("sde", ["vp", "edm"])
def test_restart_by_default_uses_few_calls_well(sde: str, spacing: Spacing) -> None:
    """The exact law on normal data: with 20 calls near the data's, where the published interval takes 16 of
    them, and with 50 calls nearer than by that interval."""
    published = Restart(Heun(), ((0.06, 0.3, 4, 2),))
    for nfe, least in ((20, 300), (50, 7)):  # 350 and 8.5 measured
        ours, theirs = (frechet(Plan.within(nfe, s, SDES[sde], spacing)) for s in (Restart(), published))
        assert ours < 0.005
        assert theirs > least * ours


def test_restart_has_the_order_of_its_solver_in_the_steps_of_run_and_intervals() -> None:
    for inner, order in ((Heun(), 2), (DPMSolverPP(2), 2), (DDIM(), 1)):
        solvers = [Restart(inner, ((0.06, 0.3, n // 8, 2),)) for n in (80, 160)]
        plans = [Plan.make(s, EDM(), n, UniformLambda()) for s, n in zip(solvers, (80, 160), strict=True)]
        errors = [frechet(plan) for plan in plans]
        # The nearest level to rho_min moves with the grid, by half a step.
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


def test_restart_mends_the_spread_that_an_inexact_solver_loses() -> None:
    """What the method is for: added noise contracts the errors of the run before."""
    plain = frechet(Plan.make(DDIM(), EDM(), 10, Karras()))
    again = frechet(Plan.make(Restart(DDIM(), ((0.3, 2.0, 20, 3),)), EDM(), 10, Karras()))
    assert again < plain


def test_restart_gives_a_multistep_solver_its_history_between_turns() -> None:
    plan = Plan.make(Restart(DPMSolverPP(2), ((0.05, 0.5, 4, 2),)), EDM(), 12)
    combined = [line for line in plan.lines if line.level is None]
    outputs = [sum(kind_of(name) == "output" for name in line.reads) for line in combined]
    starts = [i for i, count in enumerate(outputs) if count == 1]
    assert plan.nfe == 12 + 2 * 4
    assert len(starts) == 4  # the run, two turns and the rest: each with one step of order 1
    assert [i for i, count in enumerate(outputs) if count == 0] == [start - 1 for start in starts[1:3]]


def test_restart_goes_no_higher_than_t_max_and_passes_over_what_a_run_does_not_reach() -> None:
    high = Plan.make(Restart(DDIM(), ((10.0, 1e4, 3, 1),)), EDM(), 10, Karras())
    assert max(level.sigma for level in high.levels) == pytest.approx(80, rel=1e-12)
    short = EDM(t_min=1.0)
    assert Plan.make(Restart(DDIM(), ((0.1, 0.5, 3, 1),)), short, 5) == Plan.make(DDIM(), short, 5)
    # One step to the end, another to clean: the turn is at the end, never at sigma = 0.
    plan = Plan.make(Restart(), EDM(), 2, to_clean=True)
    assert all(math.isfinite(weight) for line in plan.lines for _, weight in line.row)
    assert plan.stochastic


@pytest.mark.parametrize("repeats", [0, 1, 2])
@pytest.mark.parametrize("steps", [1, 3])
def test_restart_takes_every_turn(steps: int, repeats: int) -> None:
    """One step and one turn, too, and none at all: then it is the solver in two parts."""
    plan = Plan.make(Restart(DDIM(), ((0.1, 2.0, steps, repeats),)), EDM(), 12)
    assert plan.nfe == 12 + steps * repeats
    tops = [level for level in plan.levels if math.isclose(level.sigma, 2.0, rel_tol=1e-9)]
    assert len(tops) == repeats
    assert plan.draws == repeats
    if not repeats:
        assert plan == Plan.make(DDIM(), EDM(), 12)


def test_restart_takes_intervals_that_touch() -> None:
    """Where one ends the next begins: a factor of 1 between them, and never one below 1."""
    touching = Restart(DDIM(), ((0.5, 2.0, 3, 1), (0.1, 0.5, 2, 1)))
    plan = Plan.make(touching, EDM(), 12)
    assert plan.nfe == 12 + 3 + 2
    rises = [i for i, (a, b) in enumerate(pairwise(plan.levels)) if b.lam < a.lam]
    assert len(rises) == 2
    assert [plan.levels[i + 1].sigma for i in rises] == pytest.approx([2.0, 0.5], rel=1e-9)


def test_restart_turns_at_a_level_that_the_run_has_come_to() -> None:
    """Where it starts within the interval it takes its first step before it turns."""
    plan = Plan.make(Restart(DDIM(), ((0.19, 0.3, 2, 1),)), EDM(), 2, AtSigmas([0.2, 0.1, 0.05]))
    assert [level.sigma for level in plan.levels][::3] == pytest.approx([0.2, 0.1], rel=1e-9)
    assert [level.sigma for level in plan.levels][1] == pytest.approx(0.3, rel=1e-9)
    assert plan.nfe == 4


def test_a_restart_at_the_end_of_a_run_ends_there() -> None:
    """No network call follows a turn at the last level, whatever the solver does before its first step."""
    for solver in (DDIM(), ExponentialAdams(2), UniC()):
        plan = Plan.make(Restart(solver, ((0.002, 0.1, 3, 1),)), EDM(), 5)
        assert plan.nfe == 5 + 3
        assert math.isfinite(integrate(plan, lambda x, level: 0.3 * x, 1.0, lambda i: 0.5))


@pytest.mark.parametrize("solver", [Churn(EulerMaruyama(), 5.0), Restart(SEEDS(2)), Churn(Restart())])
def test_wrappers_wrap_anything(solver: Solver) -> None:
    plan = Plan.make(solver, VPSDE(), 30, to_clean=True)
    z = [normal(7, seed=i) for i in range(200)]
    *_, end = iterate(plan, mixture, normal(7), lambda i: z[i])
    assert end.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolverPPSDE(ratio=1.0), "ratio must be .* got 1.0"),
        (lambda: DPMSolverPPSDE(ratio=math.nan), "ratio must be .* got nan"),
        (lambda: DPMSolverPPSDE(eta=-1.0), "eta must be at least 0, got -1.0"),
        (lambda: SDEDPMSolver(3), "order must be 1 or 2, got 3"),
        (lambda: SEEDS(4), "stages must be 1, 2 or 3, got 4"),
        (lambda: ERSDE(0), "terms must be 1, 2 or 3, got 0"),
        (lambda: ERSDE(1, 2.0), "phi must be a function of sigma / alpha, got 2.0"),
        (lambda: Plan.make(ERSDE(1, math.sqrt), EDM(), 5), r"phi\(rho\) / rho must be positive and rise"),
        (lambda: Churn(DDIM), "solver must be a solver .* got <class"),
        (lambda: Churn("heun"), "solver must be a solver .* got 'heun'"),
        (lambda: PredictorCorrector(DDIM), "predictor must be a solver that is a table, got <class"),
        (lambda: UniC(ODE()), "solver must be a solver that is a table, got ODE"),
        (lambda: Churn(s_churn=-1.0), "s_churn must not be negative, got -1.0"),
        (lambda: Churn(s_min=2.0, s_max=1.0), "s_min <= s_max .* got 2.0 and 1.0"),
        (lambda: Churn(s_noise=0.0), "s_noise must be positive, got 0.0"),
        (lambda: Restart(s_noise=math.nan), "s_noise must be positive, got nan"),
        (lambda: Restart(s_noise=0.0), "s_noise must be positive, got 0.0"),
        (lambda: Restart(intervals=((0.3, 0.3, 4, 2),)), "rho_min < rho_max, .* got"),  # a factor of 1
        (lambda: Restart(intervals=((0.0, 0.3, 4, 2),)), "0 < rho_min < rho_max, .* got"),
        (lambda: Restart(intervals=((0.1, 0.3, 4, -1),)), "no negative repeats"),
        (lambda: Restart(intervals=((0.3, 0.06, 4, 2),)), "rho_min < rho_max, .* got"),
        (
            lambda: Restart(intervals=((0.1, 0.3, 4, 2), (0.2, 0.5, 4, 2))),
            "noisiest first and not overlapping",
        ),
        (lambda: Restart(intervals=((0.1, 0.3, 4),)), "rho_min, rho_max, steps, repeats"),
        (lambda: Restart(intervals=((0.1, 0.3, 0, 2),)), "at least 1 step"),
    ],
)
def test_what_a_solver_does_not_take_raises(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
