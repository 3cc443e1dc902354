"""Runs that start where alpha = 0: every solver has a first step there, and keeps its order and its law.

The exact ends are by DOP853 on dx / dt = eps - x_0 in the time of the rectified flow: the velocity is finite
at t = 1, so that nothing of the start is approximated. No formula of the library is used.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from certificates.runs import refined
from scipy.integrate import solve_ivp
from torch import Tensor

from scoresde import (
    SDE,
    SOLVERS,
    Denoiser,
    Level,
    Plan,
    RectifiedFlow,
    UniformLambda,
    UniformTime,
    integrate,
    predict,
    prepare,
    sample,
)
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM, AdaptiveSDE, DPMAdaptive, EulerMaruyama, ExponentialAdams, SciPy
from scoresde.solvers.integrators.base import Integration, Integrator
from scoresde.solvers.integrators.ode import ADAPTIVE, FIXED, ODE, fixed_calls
from scoresde.solvers.integrators.per_sample import PerSampleIntegrator
from scoresde.solvers.integrators.reverse_sde import TORCHSDE, TorchSDE
from scoresde.solvers.integrators.solve_ivp import SCIPY
from scoresde.spacings import AtTimes, QuadraticTime, Spacing
from tests.problems import (
    MEAN,
    TABLES,
    Net,
    calls,
    frechet,
    gaussian,
    law,
    mixture,
    normal,
    point_mass,
    spread,
)

FLOW = RectifiedFlow(t_min=1e-2)
X = torch.linspace(-2, 2, 9, dtype=torch.float64)


@dataclass(frozen=True)
class ZeroTerminalVP(SDE):
    """alpha = 1 - t, sigma^2 = 1 - alpha^2: a variance-preserving process without data at t = 1.

    Such schedules are those of Lin et al. 2024 (arXiv 2305.08891), "zero terminal SNR".
    """

    t_min: float = 1e-3
    t_max: float = 1.0

    def log_alpha(self, t: Tensor) -> Tensor:
        return torch.log1p(-t)

    def log_sigma(self, t: Tensor) -> Tensor:
        return 0.5 * torch.log(t * (2 - t))

    def time_of(self, lam: Tensor) -> Tensor:
        root = torch.sigmoid(-2 * lam)  # sigma^2
        return root / (1 + torch.sqrt(1 - root))


@cache
def exact() -> Tensor:
    """The ends of the probability-flow ODE on FLOW from X at t = 1, to 1e-12."""

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        d = mixture(torch.from_numpy(x), Level(t, 1 - t, t, math.nan)).numpy()
        return (x - (1 - t) * d) / t - d

    path = solve_ivp(velocity, (1.0, FLOW.t_min), X.numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.from_numpy(path.y[:, -1])


def ended(run: Plan | Integration, denoise: Any = mixture, x: Tensor = X) -> Tensor:
    if isinstance(run, Plan):
        return integrate(run, denoise, x)  # type: ignore[no-any-return]
    return run.integrate(denoise, x[:, None], None)[:, 0]  # type: ignore[no-any-return]


def error(run: Plan | Integration) -> float:
    return frechet(run) if run.stochastic else (ended(run) - exact()).abs().mean().item()


def best_order(errors: list[float]) -> float:
    """The larger of the orders of two doublings: in one, an error may pass through zero."""
    return max(math.log2(a / b) for a, b in pairwise(errors))


def far(n: int) -> Spacing:
    """A first step to sigma / alpha = e^11, n - 1 steps equal in lambda: the first step's error is 1e-10."""
    return AtTimes([1.0, *UniformLambda()(FLOW.clip(-11.0, math.inf), n - 1).tolist()])


class Calls:
    """A denoiser that remembers where it was called, and for which samples.

    ``axes``: of the levels of samples, to broadcast in the denoiser; the mixture has one for its components.
    """

    def __init__(self, denoise: Any = mixture, axes: int = 2) -> None:
        self.denoise, self.axes = denoise, axes
        self.levels, self.rows = [], []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        self.levels.append(level)
        self.rows.append(torch.arange(len(x)) if rows is None else rows)
        own = Level(*(n.reshape(-1, *[1] * self.axes) if isinstance(n, Tensor) else n for n in level))
        return self.denoise(x, own)


class Draws:
    """Draws by number that remember which were asked for."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.read = shape, [0]
        self.read.clear()

    def __call__(self, i: int) -> Tensor:
        self.read.append(i)
        return normal(*self.shape, seed=2000 + i)


# Every solver.
@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_starts_there_within_its_budget(name: str, to_clean: bool) -> None:
    for process in (RectifiedFlow(), ZeroTerminalVP()):
        network = Net()
        denoiser = Denoiser(network, process, predict.velocity)
        nfe = calls(name, 20 + to_clean)
        run = prepare(name, process, nfe, UniformTime(), to_clean=to_clean)
        assert (run.start.t, run.start.alpha) == (1.0, 0.0)
        x = sample(denoiser, run, (3, 2), dtype=torch.float64 if to_clean else torch.float32)
        assert torch.isfinite(x).all()
        if name != "parallel":  # it asks for many states in a call
            assert network.calls == run.nfe if run.nfe else nfe is None or network.calls <= nfe


def rate(name: str, spacing: Callable[[int], Spacing], steps: tuple[int, ...]) -> float:
    solver = TABLES[name]
    return best_order([error(Plan.make(refined(solver, n / steps[0]), FLOW, n, spacing(n))) for n in steps])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_keeps_its_order_beyond_the_first_step(name: str) -> None:
    """With the first step far out, the rest shows the order that the certificates ask for, less 0.2."""
    assert rate(name, far, (81, 161, 321)) >= TABLES[name].order - 0.2


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_order_2_at_most_where_the_first_step_is_one_of_the_grid(name: str) -> None:
    """The error of the first of n steps is of order 1 / n^2: it is exact for constant data, at R = n - 1.

    The next steps have ratios 2, 3 / 2, ... of sigma / alpha for every n; a method of fixed weights has an
    error of h^2 log(1 / h) there, which falls by 0.2 less than h^2 at these numbers (ipndm).
    """
    assert rate(name, lambda n: UniformTime(), (80, 160, 320)) >= min(TABLES[name].order, 2) - 0.3


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("velocity")])
def test_a_method_on_the_velocity_keeps_its_order_from_the_first_step(name: str) -> None:
    """The velocity is smooth in u up to alpha = 0, so that the first step is one of the grid."""
    assert rate(name, lambda n: UniformTime(), (40, 80, 160)) >= TABLES[name].order - 0.2


@pytest.mark.parametrize("corrector", [0, 5])
@pytest.mark.parametrize("predictor", [1, 2, 3, 4])
def test_a_polynomial_velocity_is_exact_from_alpha_0(predictor: int, corrector: int) -> None:
    """A velocity of degree p - 1 in u, the same for all x, by the iterated start of p outputs."""

    def denoise(x: Tensor, level: Level[float]) -> Tensor:
        return x - level.sigma * (0.7 + level.sigma ** (predictor - 1))  # x - u m, for alpha + sigma = 1

    solver = ExponentialAdams(predictor, corrector, prediction="velocity", variable="u", start="iterated")
    levels = AtTimes([1.0, 0.9, 0.8, 0.6, 0.5, 0.1])
    plan = Plan.make(solver, RectifiedFlow(), 5, levels)
    exact = X - 0.7 * 0.9 - (1 - 0.1**predictor) / predictor
    torch.testing.assert_close(ended(plan, denoise), exact, rtol=1e-13, atol=1e-13)


# euler and em.
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_the_first_step_of_em_has_the_exact_law_of_a_point_mass(eta: float) -> None:
    for t in (0.99, 0.5, 0.1):
        plan = Plan.make(EulerMaruyama(eta), RectifiedFlow(), 1, AtTimes([1.0, t]))
        assert law(plan, point_mass, 0.0, 1.0) == pytest.approx((1 - t, t), abs=1e-15)
        assert plan.stochastic == (eta > 0)
    to_clean = Plan.make(EulerMaruyama(eta), RectifiedFlow(), 2, AtTimes([1.0, 0.5]), to_clean=True)
    assert law(to_clean, point_mass, 0.0, 1.0) == pytest.approx((1, 0), abs=1e-15)


def test_euler_is_euler_on_the_velocity() -> None:
    """On a rectified flow Euler in t is x + (s - t) (eps - x_0), at alpha = 0, too; so is DDIM."""
    x, times = X, torch.linspace(1, 0.1, 10, dtype=torch.float64).tolist()
    for t, s in pairwise(times):
        d = mixture(x, Level(t, 1 - t, t, math.nan))
        x = x + (s - t) * ((x - (1 - t) * d) / t - d)
    for solver in (EulerMaruyama(0.0), DDIM()):
        plan = Plan.make(solver, RectifiedFlow(), 9, AtTimes(times))
        torch.testing.assert_close(ended(plan), x, rtol=1e-12, atol=1e-12)  # roundings


# ode and scipy: regular at alpha = 0, so of the same order and tolerance as elsewhere.
ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "explicit_adams": 4}


@pytest.mark.parametrize("spacing", [UniformTime(), QuadraticTime()])
@pytest.mark.parametrize("method", ORDERS)
def test_a_fixed_method_of_ode_keeps_its_order(method: str, spacing: Spacing) -> None:
    assert set(ORDERS) == set(FIXED)
    given = None if method == "explicit_adams" else spacing
    errors = [error(ODE(method).prepare(FLOW, fixed_calls(method, n), given)) for n in (80, 160, 320)]
    assert errors[2] > 1e-11  # above the error of the reference
    assert math.log2(errors[1] / errors[2]) == pytest.approx(ORDERS[method], abs=0.15)  # within 0.12 measured


@pytest.mark.parametrize("to_clean", [False, True])
def test_euler_of_ode_is_ddim_there(to_clean: bool) -> None:
    for process in (RectifiedFlow(), ZeroTerminalVP()):
        run, plan = (prepare(one, process, 12, to_clean=to_clean) for one in (ODE("euler"), DDIM()))
        torch.testing.assert_close(ended(run), ended(plan), rtol=1e-11, atol=1e-11)  # the same sums


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-9])
def test_a_tolerance_is_kept_there(tolerance: float) -> None:
    for solver in (ODE("dopri5", tolerance, tolerance), SciPy("RK45", tolerance, tolerance)):
        assert (ended(solver.prepare(FLOW, None)) - exact()).abs().max() < 20 * tolerance  # as from alpha > 0


@pytest.mark.parametrize(
    "solver",
    [
        *(ODE(method, 1e-5, 1e-6) for method in (*ADAPTIVE, "scipy_solver")),
        *(SciPy(method, 1e-6, 1e-7) for method in SCIPY),
        ODE("implicit_adams", 1e-7, 1e-7),
    ],
    ids=lambda solver: f"{type(solver).__name__}-{solver.method}",
)
def test_every_method_of_a_tolerance_finds_the_solution(solver: ODE | SciPy) -> None:
    run = solver.prepare(FLOW, 600 if solver.method == "implicit_adams" else None)
    assert (ended(run) - exact()).abs().max() < 2e-3  # as from alpha > 0: some bound the mean of all states


# torchsde.
WEAK = {"euler": 1, "milstein": 1, "srk": 2, "heun": 2, "midpoint": 2, "euler_heun": 1}


@pytest.mark.parametrize("method", WEAK)
def test_torchsde_keeps_its_order(method: str) -> None:
    assert set(WEAK) == set(TORCHSDE)
    errors = [frechet(TorchSDE(method).prepare(FLOW, TORCHSDE[method] * (n - 1) + 1)) for n in (40, 80, 160)]
    assert best_order(errors) >= WEAK[method] - 0.25
    assert errors[-1] < 0.01


def test_euler_of_torchsde_is_em_there() -> None:
    for process in (RectifiedFlow(), ZeroTerminalVP()):
        run, plan = TorchSDE("euler").prepare(process, 30), Plan.make(EulerMaruyama(), process, 30)
        noise = Draws(20)
        x = run.start.sigma * normal(20)
        theirs = run.integrate(mixture, x[:, None], lambda i, noise=noise: noise(i)[:, None])[:, 0]
        assert noise.read == list(range(30))
        torch.testing.assert_close(theirs, integrate(plan, mixture, x, noise), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", TORCHSDE)
@pytest.mark.parametrize("to_clean", [False, True])
def test_torchsde_uses_all_of_its_budget_there(method: str, to_clean: bool) -> None:
    per_step, denoise = TORCHSDE[method], Calls(gaussian, 1)
    for nfe in (*range(1, 13), 60):
        if nfe < 1 + to_clean:
            with pytest.raises(ValueError, match=f"nfe must be at least {1 + to_clean} for torchsde method"):
                prepare(TorchSDE(method), RectifiedFlow(), nfe, to_clean=to_clean)
            continue
        run = prepare(TorchSDE(method), RectifiedFlow(), nfe, to_clean=to_clean)
        denoise.levels.clear()
        noise = Draws(2, 1)
        run.integrate(denoise, torch.ones(2, 1, dtype=torch.float64), noise)  # type: ignore[union-attr]
        assert len(denoise.levels) == run.nfe <= nfe < run.nfe + per_step
        assert noise.read == list(range(len(noise.read)))
        assert denoise.levels[0].alpha == 0
        assert all(level.alpha > 0 for level in denoise.levels[1:])


# One step size per sample.
PAIRS: dict[str, PerSampleIntegrator] = {
    "12": DPMAdaptive(2),
    "23": DPMAdaptive(3),
    "em": AdaptiveSDE(1.0, 0.3),
}


@pytest.mark.parametrize("tolerance", [0.05, 1e-3, 1e-6])
@pytest.mark.parametrize("larger", ["rtol", "atol"])
def test_the_first_step_leaves_nearly_all_of_the_tolerance(larger: str, tolerance: float) -> None:
    """It misses sqrt(1 + 1 / R^2) - 1 of a state of data N(0, 1): C / 200 of the tolerance."""
    tolerances = {"rtol": tolerance / 9, "atol": tolerance / 9} | {larger: tolerance}
    denoise = Calls(lambda x, level: level.alpha / (level.alpha**2 + level.sigma**2) * x, 1)
    DPMAdaptive(2, **tolerances).carry_out(denoise, torch.ones(1, 1, dtype=torch.float64), None, FLOW)
    first, second, *_ = denoise.levels
    ratio = (second.sigma / second.alpha).item()
    assert first.alpha == 0
    assert math.sqrt(1 + ratio**-2) - 1 == pytest.approx(tolerance / 200, rel=1e-3)


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_finds_the_solution_to_its_tolerance(order: int) -> None:
    errors = []
    for part in (1, 10, 1000):
        solver = DPMAdaptive(order, 0.05 / part, 0.0078 / part)
        end = solver.carry_out(Calls(), X[:, None], None, FLOW).x[:, 0]
        errors.append((end - exact()).abs().mean().item())
        assert errors[-1] < 2 * 0.05 / part  # of a step, in numbers of up to 2; the flow contracts their sum
    assert errors[-1] < errors[0] / 32  # as the certificates ask for


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_carries_a_point_mass_exactly_there(order: int) -> None:
    noise = normal(4, 2)
    for process in (RectifiedFlow(), ZeroTerminalVP()):
        end = process.level_at(process.t_min)
        solved = DPMAdaptive(order).carry_out(
            lambda x, level, rows=None: torch.ones_like(x), noise, None, process
        )
        torch.testing.assert_close(solved.x, end.alpha + end.sigma * noise, rtol=0, atol=1e-11)


def test_adaptive_em_has_the_law_of_gaussian_data_there() -> None:
    n, end = 1500, FLOW.level_at(FLOW.t_min)
    noise = Draws(n, 1)
    x = AdaptiveSDE(0.05, 0.05 / 3).carry_out(Calls(gaussian, 1), normal(n, 1, seed=4), noise, FLOW).x
    assert noise.read == list(range(len(noise.read)))
    # Four standard errors of 1,500 samples: s / sqrt(n) and s / sqrt(2 n), s = 0.5.
    assert abs(x.mean().item() - end.alpha * MEAN) < 4 * 0.0129
    assert abs(x.std().item() - spread(end)) < 4 * 0.0091


@pytest.mark.parametrize("name", PAIRS)
def test_calls_of_a_sample_count_the_first_step(name: str) -> None:
    x, denoise, solver = normal(4, 1), Calls(), PAIRS[name]
    solved = solver.carry_out(denoise, x, Draws(4, 1), FLOW, to_clean=True)
    assert solved.calls.tolist() == torch.bincount(torch.cat(denoise.rows)).tolist()
    needed = int(solved.calls.max())
    assert len(denoise.levels) == needed
    again = solver.carry_out(Calls(), x, Draws(4, 1), FLOW, needed, to_clean=True)
    assert torch.equal(again.x, solved.x)
    with pytest.raises(RuntimeError, match=r"is not done after \d+ network calls"):
        solver.carry_out(Calls(), x, Draws(4, 1), FLOW, needed - 1, to_clean=True)
    least = solver.calls_per_attempt + 2
    assert solver.prepare(FLOW, least, to_clean=True).end == CLEAN
    with pytest.raises(ValueError, match=f"nfe must be at least {least} for"):
        solver.prepare(FLOW, least - 1, to_clean=True)


@pytest.mark.parametrize("name", PAIRS)
def test_a_run_that_ends_in_noise_is_the_first_step_alone(name: str) -> None:
    """The end is noisier than the level to which the first step would go."""
    x, denoise = normal(4, 1), Calls()
    solved = PAIRS[name].carry_out(denoise, x, lambda i: x, FLOW, spacing=AtTimes([1.0, 0.9999]))
    assert solved.calls.tolist() == [1] * 4
    expected = 1e-4 * mixture(x, FLOW.level_at(1.0)) + 0.9999 * x
    torch.testing.assert_close(solved.x, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", [*PAIRS, "torchsde"])
def test_a_sample_is_the_same_alone_and_in_any_batch_there(name: str) -> None:
    denoiser = Denoiser(Net(), RectifiedFlow(), predict.velocity)
    solver, ids = PAIRS.get(name, TorchSDE("srk")), torch.tensor([7, 1, 40])
    nfe = None if name in PAIRS else 31
    whole = sample(denoiser, solver, (3, 3), ids=ids, nfe=nfe)
    for i in range(3):
        assert torch.equal(sample(denoiser, solver, (1, 3), ids=ids[i : i + 1], nfe=nfe)[0], whole[i])


def overwrites(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
    """A network that writes to its input and returns it."""
    return x.mul_(0.3)


@pytest.mark.parametrize("name", [*PAIRS, "torchsde", "ode", "scipy"])
def test_a_network_that_writes_to_its_input_does_no_harm_there(name: str) -> None:
    solver = PAIRS.get(name) or SOLVERS[name]
    run = prepare(solver, RectifiedFlow(), 30 if name in ("torchsde", "ode") else None)
    x = normal(3, 2)
    kept = x.clone()
    ends = [run.integrate(net, x, Draws(3, 2)) for net in (overwrites, lambda x, level, rows=None: 0.3 * x)]
    assert torch.equal(x, kept)
    torch.testing.assert_close(*ends, rtol=1e-6, atol=1e-6)  # an error norm's float32


# Another process without data at its start.
@pytest.mark.parametrize(
    "solver",
    [
        ODE("dopri5", 1e-9, 1e-9),
        SciPy("DOP853", 1e-9, 1e-9),
        DPMAdaptive(3, 1e-7, 1e-7),
        ODE("explicit_adams"),
    ],
    ids=repr,
)
def test_the_solution_is_the_same_on_a_variance_preserving_process(solver: Integrator) -> None:
    """x / (alpha + sigma) depends on lambda alone, from sigma = 1 at the start on."""
    process = ZeroTerminalVP(t_min=1e-6).clip(-math.inf, FLOW.lam_at(FLOW.t_min))
    end = process.level_at(process.t_min)
    run = solver.prepare(process, 2000 if solver == ODE("explicit_adams") else None)
    y = run.integrate(Calls(), X[:, None], None)[:, 0] / (end.alpha + end.sigma)
    torch.testing.assert_close(y, exact(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["em", "torchsde"])
def test_the_law_is_right_on_a_variance_preserving_process(name: str) -> None:
    errors = [frechet(prepare(name, ZeroTerminalVP(t_min=1e-2), n)) for n in (80, 160, 320)]
    assert best_order(errors) >= 0.8
    assert errors[-1] < 0.01
