"""Integrators: torchdiffeq on the probability-flow ODE, torchsde on the reverse SDE.

Against scipy's, against our own tables, and against laws in closed form.
"""

import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Cosine,
    Counted,
    Denoiser,
    Karras,
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
from scoresde.solvers import DDIM, EulerMaruyama
from scoresde.solvers.integrators.base import Integration, worst
from scoresde.solvers.integrators.ode import ADAPTIVE, FIXED, ODE, fixed_calls
from scoresde.solvers.integrators.reverse_sde import TORCHSDE, TorchSDE
from scoresde.spacings import AtTimes, Grid, QuadraticTime, Spacing
from tests.problems import (
    MEAN,
    SDES,
    Net,
    frechet,
    gaussian,
    law,
    mixture,
    normal,
    point_mass,
    reference,
    sde_ends,
    spread,
)

ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "explicit_adams": 4}


def carry_out(run: Plan | Integration, x: Tensor, noise: Any = None, denoise: Any = mixture) -> Tensor:
    """As ``sample`` does, on states ``(B,)``; an integrator receives ``(B, 1)``."""
    if isinstance(run, Plan):
        return integrate(run, denoise, x, noise)
    return run.integrate(denoise, x[:, None], noise)[:, 0]


# The probability-flow ODE.
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("method", ORDERS)
def test_a_fixed_method_of_ode_has_its_order(method: str, sde: str) -> None:
    assert set(ORDERS) == set(FIXED)
    x, exact = reference(sde)
    errors = [
        (carry_out(ODE(method).prepare(SDES[sde], fixed_calls(method, steps)), x) - exact).abs().mean().item()
        for steps in (160, 320)
    ]
    # Measured: within 0.03, 0.06 for Adams with its start of another method, and 0.12 for rk4.
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[method], abs=0.15)


def test_implicit_adams_is_as_good_as_its_order_says() -> None:
    """Its iteration stops at a tolerance, which leaves no clean order: better than explicit_adams, then."""
    x, exact = reference("vp")
    end = carry_out(ODE("implicit_adams", rtol=1e-7, atol=1e-7).prepare(SDES["vp"], 480), x)
    explicit = carry_out(ODE("explicit_adams").prepare(SDES["vp"], fixed_calls("explicit_adams", 80)), x)
    assert (end - exact).abs().mean() < (explicit - exact).abs().mean() / 5  # 11 times measured


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("sde", SDES)
def test_an_adaptive_ode_keeps_to_its_tolerance(sde: str, tolerance: float) -> None:
    x, exact = reference(sde)
    end = carry_out(ODE("dopri5", tolerance, tolerance).prepare(SDES[sde], None), x)
    # The tolerance is of a step; the flow contracts towards the data, which keeps their sum of that size.
    assert (end - exact).abs().max() < 20 * tolerance


@pytest.mark.parametrize("method", [*ADAPTIVE, "scipy_solver"])
def test_every_adaptive_method_finds_the_solution(method: str) -> None:
    x, exact = reference("vp")
    end = carry_out(ODE(method, 1e-5, 1e-6).prepare(SDES["vp"], None), x)
    # scipy's default, LSODA, bounds the mean error of all states; adaptive_heun takes hundreds of steps.
    assert (end - exact).abs().max() < 2e-3


def in_log_r(method: str, tolerance: float, sde: SDE, x: Tensor) -> tuple[Tensor, int]:
    """The same method of torchdiffeq in lambda = -log(sigma / alpha) on x / sqrt(alpha^2 + sigma^2)."""
    (start, end), calls = sde_ends(sde), 0

    def slope(lam: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        level = sde.level_of(min(max(lam.item(), start.lam), end.lam))
        size = math.hypot(level.alpha, level.sigma)
        a, s = level.alpha / size, level.sigma / size
        d = mixture(size * y, level)
        return a * s * (s * d - a * (y - a * d) / s)

    lams = torch.tensor([start.lam, end.lam], dtype=torch.float64)
    y, tolerances = x[:, None] / math.hypot(start.alpha, start.sigma), {"rtol": tolerance, "atol": tolerance}
    path: Any = odeint(
        slope, y, lams, method=method, options={"step_t": lams[1:], "norm": worst}, **tolerances
    )
    return math.hypot(end.alpha, end.sigma) * path[-1][:, 0], calls


@pytest.mark.parametrize("sde", ["vp", "edm", "cosine"])
@pytest.mark.parametrize(
    ("method", "order"), [("bosh3", 3), ("dopri5", 5), ("dopri8", 8), ("adaptive_heun", 2)]
)
def test_an_adaptive_ode_does_more_with_a_call_than_in_log_r(method: str, order: int, sde: str) -> None:
    """At every tolerance: error calls^order is smaller; 0.02 to 0.77 times as large."""
    x, exact = reference(sde)
    for tolerance in (1e-2, 1e-3, 1e-4):
        other, calls = in_log_r(method, tolerance, SDES[sde], x)
        denoise = Calls(mixture)
        ours = carry_out(ODE(method, tolerance, tolerance).prepare(SDES[sde], None), x, denoise=denoise)
        errors = [(end - exact).square().mean().sqrt().item() for end in (ours, other)]
        assert errors[0] * denoise.calls**order < errors[1] * calls**order
        assert denoise.calls < calls


@pytest.mark.parametrize("sde", ["vp", "edm", "cosine", "rectified-flow", "ve", "sub-vp"])
def test_ode_is_scipys_solution_of_the_papers_equation(sde: str) -> None:
    """dx / dt = f x - g^2 score / 2 in t itself, by DOP853: neither lambda nor sigma / alpha is used."""
    process = SDES[sde]
    run = ODE("dopri8", 1e-10, 1e-10).prepare(process, None)
    x = run.start.sigma * torch.linspace(-2, 2, 5, dtype=torch.float64)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        at = torch.tensor(t, dtype=torch.float64)
        level = Level(*torch.stack(process.level(at)).tolist())
        state = torch.from_numpy(x)
        score = (level.alpha * mixture(state, level) - state) / level.sigma**2
        return (process.drift(at) * state - process.diffusion2(at) * score / 2).numpy()

    path = solve_ivp(
        slope,
        (process.t_max, process.t_min),
        x.numpy(),
        method="DOP853",
        rtol=1e-8,
        atol=1e-9,
        max_step=np.inf,
    )
    # DOP853's tolerance, with the growth of an error from t = 1 on.
    torch.testing.assert_close(carry_out(run, x), torch.from_numpy(path.y[:, -1]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("spacing", [UniformTime(), UniformLambda(), Karras()])
def test_euler_of_ode_is_ddim(spacing: Spacing, to_clean: bool) -> None:
    for sde in SDES.values():
        run = prepare(ODE("euler"), sde, 12, spacing, to_clean=to_clean)
        plan = prepare(DDIM(), sde, 12, spacing, to_clean=to_clean)
        x = run.start.sigma * normal(9)
        # The same sums in other variables.
        torch.testing.assert_close(carry_out(run, x), carry_out(plan, x), rtol=1e-10, atol=1e-10)
        assert run.end == plan.end


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2", "heun3", "rk4"])
@pytest.mark.parametrize("to_clean", [False, True])
def test_ode_carries_a_point_mass_exactly(method: str, to_clean: bool) -> None:
    """The path in u is a line then."""
    for sde in (VPSDE(), EDM(), Cosine(), RectifiedFlow()):
        run = ODE(method).prepare(sde, 12 + to_clean, to_clean=to_clean)
        end = law(run, point_mass, run.start.alpha, run.start.sigma)
        # Stages near the data divide roundings of 1 by u, 0.001 at the least.
        assert end == pytest.approx((run.end.alpha, run.end.sigma), abs=1e-11)


def test_adams_needs_even_steps() -> None:
    """Its weights are those of equal steps: on others it would be of order 1 at best."""
    for method in ("explicit_adams", "implicit_adams"):
        message = f"spacing must be None or uniform-lambda for ode method {method}"
        for spacing in (UniformTime(), Karras(), AtTimes([0.9, 0.7, 0.2, 0.1])):
            with pytest.raises(ValueError, match=message):
                prepare(ODE(method), VPSDE(), 40, spacing)
        with pytest.raises(ValueError, match=message):
            prepare(ODE(method), RectifiedFlow(), 40, UniformTime())
        assert prepare(ODE(method), VPSDE(), 40, UniformLambda()).end.t == pytest.approx(1e-3, abs=1e-9)


@pytest.mark.parametrize("sde", [EDM(), VPSDE(), RectifiedFlow()], ids=["edm", "vp", "from alpha = 0"])
def test_adams_has_its_own_steps_where_no_spacing_is_given(sde: SDE) -> None:
    """Equal in sqrt(sigma / (alpha + sigma)), whatever the default spacing of the others is."""
    denoise = Calls(mixture)
    run = prepare(ODE("explicit_adams"), sde, 60)
    carry_out(run, run.start.sigma * normal(4), denoise=denoise)
    roots = sorted({math.sqrt(at.sigma / (at.alpha + at.sigma)) for at in denoise.levels})
    # Its first steps, of another method, call the network inside of a step, too.
    steps = torch.tensor(roots[:-20], dtype=torch.float64).diff()
    assert len(steps) > 20
    # Rounding of the inverse: near u = 1 a rounding of t is amplified by sigma / alpha, 152 at the most.
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-10, atol=0)


def test_adams_has_its_order_in_lambda_too() -> None:
    x, exact = reference("vp")
    errors = [
        (carry_out(ODE("explicit_adams").prepare(SDES["vp"], nfe, UniformLambda()), x) - exact).abs().mean()
        for nfe in (fixed_calls("explicit_adams", steps) for steps in (320, 640))
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.15)


def test_the_worst_sample_decides_the_steps() -> None:
    """A hundred samples that hardly move do not hide one that does."""
    start = ODE().prepare(VPSDE(), None).start
    hard = 0.4 * torch.ones(1, 8)

    def denoise(x: Tensor, level: Level[float]) -> Tensor:
        return mixture(3 * x, level) * (x.abs().sum(1, keepdim=True) > 1e-3)

    calls = []
    for x in (hard, torch.cat([torch.zeros(200, 8), hard])):
        denoiser = Calls(denoise)
        ODE("dopri5", 1e-4, 1e-4).prepare(VPSDE(), None).integrate(denoiser, start.sigma * x, None)
        calls.append(denoiser.calls)
    assert calls[1] >= calls[0]


class Calls:
    """A denoiser that remembers where it was called."""

    def __init__(self, denoise: Any) -> None:
        self.denoise, self.levels = denoise, []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor, level: Level[float]) -> Tensor:
        self.levels.append(level)
        return self.denoise(x, level)

    @property
    def calls(self) -> int:
        return len(self.levels)


@pytest.mark.parametrize("method", [*ADAPTIVE, "rk4", "explicit_adams", "scipy_solver"])
def test_ode_asks_the_network_only_within_the_sdes_times(method: str) -> None:
    """A first try of an adaptive step may look beyond the end, above all on a short way."""
    for sde in (VPSDE(), EDM(0.002, 0.005), EDM(79.0, 80.0), RectifiedFlow(0.001, 0.01)):
        denoise = Calls(lambda x, level: 0.9 * x)
        run = ODE(method).prepare(sde, 60 if method in FIXED else None)
        assert torch.isfinite(run.integrate(denoise, run.start.sigma * normal(4, 2), None)).all()
        slack = 1e-9 * (sde.t_max - sde.t_min)  # the rounding of an inverse
        times = [level.t for level in denoise.levels]
        assert sde.t_min - slack <= min(times) <= max(times) <= sde.t_max + slack


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_fixed_ode_uses_all_of_its_budget_and_no_more(method: str, to_clean: bool) -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    least = fixed_calls(method, 1) + to_clean
    for nfe in (*range(1, 13), 37, 60) if to_clean else range(1, 61):
        if nfe < least:
            with pytest.raises(
                ValueError, match=rf"nfe must be at least {least} for ode method {method}, got {nfe}"
            ):
                prepare(ODE(method), VPSDE(), nfe, to_clean=to_clean)
            continue
        run = prepare(ODE(method), VPSDE(), nfe, to_clean=to_clean)
        denoiser.calls = 0
        run.integrate(denoiser, torch.ones(1, 1), None)  # type: ignore[union-attr]
        assert denoiser.calls == run.nfe
        longer = next(n for n in range(1, 99) if fixed_calls(method, n) + to_clean > run.nfe)
        assert run.nfe <= nfe < fixed_calls(method, longer) + to_clean


@pytest.mark.filterwarnings("ignore:Functional iteration did not converge")  # with few steps it does not
@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("method", [*ADAPTIVE, "scipy_solver", "implicit_adams"])
def test_an_ode_that_is_not_done_within_its_limit_stops(method: str, to_clean: bool) -> None:
    """Whatever the method does inside: the calls made are never more than ``nfe``."""
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    done = 0
    for nfe in (*range(1, 20), 40, 80, 400):
        denoiser.calls, refused = 0, ""
        try:
            sample(denoiser, ODE(method, 1e-4, 1e-4), (2, 2), nfe=nfe, to_clean=to_clean)
            done += 1
        except (RuntimeError, ValueError) as error:
            refused = str(error)
        if method == "implicit_adams":  # of fixed steps, whose least number is known before the run
            assert (f"nfe must be at least {6 + to_clean}" in refused) == (nfe < 6 + to_clean)
        else:
            assert not refused or f"is not done after {nfe} network calls" in refused
        assert denoiser.calls <= nfe
    assert 0 < done < 22


def test_an_adaptive_ode_has_no_limit_if_none_is_given() -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    run = prepare(ODE(), VPSDE(), None)
    assert run.nfe is None
    sample(denoiser, ODE(), (2, 2))
    unlimited = denoiser.calls
    assert unlimited > 20
    sample(denoiser, ODE(), (2, 2), nfe=unlimited)
    assert denoiser.calls == 2 * unlimited
    with pytest.raises(
        RuntimeError, match=f"not done after {unlimited - 1} network calls, at t = .*raise nfe"
    ):
        sample(denoiser, ODE(), (2, 2), nfe=unlimited - 1)


@pytest.mark.parametrize("method", [*FIXED, "implicit_adams"])
def test_a_fixed_ode_needs_a_budget(method: str) -> None:
    with pytest.raises(ValueError, match=f"nfe must be a number for the fixed steps of {method}, got None"):
        prepare(ODE(method), VPSDE(), None)


@pytest.mark.parametrize("method", ["midpoint", "dopri5", "scipy_solver"])
def test_ode_takes_listed_times(method: str) -> None:
    times = [0.9, 0.5, 0.1]
    run = prepare(ODE(method), VPSDE(), 400, AtTimes(times))
    assert (run.start.t, run.end.t) == (0.9, 0.1)
    if method == "midpoint":
        assert run.nfe == 4
        with pytest.raises(ValueError, match="nfe must be at least 4 for ode method midpoint, got 3"):
            prepare(ODE(method), VPSDE(), 3, AtTimes(times))
    else:
        denoise = Calls(mixture)
        end = carry_out(run, normal(5), denoise=denoise)
        assert max(level.t for level in denoise.levels) == pytest.approx(0.9, abs=1e-6)  # scipy's first look
        by_ends = carry_out(prepare(ODE(method), VPSDE(t_min=0.1, t_max=0.9), 400), normal(5))
        torch.testing.assert_close(end, by_ends, rtol=1e-9, atol=1e-9)  # the same run


def test_a_solver_of_scipy_that_gives_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hands back as much of the path as there is: the start, which is no sample."""
    from torchdiffeq._impl import scipy_wrapper

    def gives_up(fun: Any, t_span: Any, y0: Any, **options: Any) -> Any:
        return SimpleNamespace(y=y0[:, None], success=False)

    monkeypatch.setattr(scipy_wrapper, "solve_ivp", gives_up)
    with pytest.raises(FloatingPointError, match=r"ODE\(method='scipy_solver'.* gave up before its end"):
        sample(Denoiser(Net(), VPSDE(), predict.noise), ODE("scipy_solver"), (2, 2))


def test_ode_to_clean_ends_with_the_denoiser() -> None:
    run, to_clean = (prepare(ODE("rk4"), EDM(), 41, to_clean=clean) for clean in (False, True))
    assert (run.nfe, to_clean.nfe) == (40, 41)
    assert to_clean.end == CLEAN
    x = 80 * normal(5)
    assert torch.equal(carry_out(to_clean, x), mixture(carry_out(run, x)[:, None], run.end)[:, 0])


# The reverse SDE.
class Increments:
    """Draws by number, float64, that may be read by anyone again."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.read = shape, [0]

    def __call__(self, i: int) -> Tensor:
        self.read.append(i)
        return normal(*self.shape, seed=1000 + i)


@pytest.mark.parametrize("spacing", [UniformTime(), QuadraticTime(), UniformLambda()])
@pytest.mark.parametrize("sde", SDES)
def test_euler_of_torchsde_is_our_em(sde: str, spacing: Spacing) -> None:
    """The same formula, by the same increments: x + dt drift + g dw on each step of the grid."""
    run = TorchSDE("euler").prepare(SDES[sde], 40, spacing)
    plan = Plan.make(EulerMaruyama(), SDES[sde], 40, spacing)
    x, noise = run.start.sigma * normal(20), Increments(20)
    theirs = run.integrate(mixture, x[:, None], lambda i: noise(i)[:, None])[:, 0]
    # The same sums in another order, of numbers up to sigma, and steps that amplify at few and uneven times.
    torch.testing.assert_close(theirs, integrate(plan, mixture, x, noise), rtol=1e-10, atol=1e-10)


def test_milstein_of_torchsde_is_euler_for_additive_noise() -> None:
    x, noise = normal(20), Increments(20, 1)
    ends = [
        TorchSDE(m).prepare(VPSDE(), 40).integrate(mixture, x[:, None], noise) for m in ("euler", "milstein")
    ]
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)  # the same formula


# Weak orders on Gaussian data: what the law of the output gains from 40 to 80 steps.
WEAK = {"euler": 1, "milstein": 1, "srk": 2, "heun": 2, "midpoint": 2, "euler_heun": 1}


@pytest.mark.parametrize("sde", ["vp", "edm", "cosine", "rectified-flow"])
@pytest.mark.parametrize("method", WEAK)
def test_torchsde_has_the_exact_law_of_gaussian_data_to_its_order(method: str, sde: str) -> None:
    """Mean and deviation by coefficient vectors through torchsde's own steps: no sampling error."""
    assert set(WEAK) == set(TORCHSDE)
    errors = [
        frechet(TorchSDE(method).prepare(SDES[sde], TORCHSDE[method] * steps, UniformLambda()))
        for steps in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) >= WEAK[method] - 0.25  # 1.9 and 0.9 measured, at the least
    assert errors[1] < 0.05


def test_srk_of_torchsde_has_mean_and_deviation_of_the_data() -> None:
    run = TorchSDE("srk").prepare(VPSDE(), 3 * 80)
    mean, std = law(run, gaussian, run.start.alpha * MEAN, spread(run.start))
    # Order 2: 4.8e-4 at 80 steps, 1.2e-4 at 160.
    assert (mean, std) == pytest.approx((run.end.alpha * MEAN, spread(run.end)), abs=6e-4)


@pytest.mark.parametrize("method", TORCHSDE)
def test_every_draw_of_torchsde_is_used_once(method: str) -> None:
    """In order, from 0: two increments that shared a draw would be the same noise."""
    noise = Increments(2, 2)
    run = TorchSDE(method).prepare(VPSDE(), 12)
    run.integrate(gaussian, torch.ones(2, 2, dtype=torch.float64), noise)
    steps = 12 // TORCHSDE[method]
    assert noise.read[1:] == list(range(steps * (2 if method == "srk" else 1)))


@pytest.mark.parametrize("method", TORCHSDE)
@pytest.mark.parametrize("to_clean", [False, True])
def test_torchsde_uses_all_of_its_budget_and_no_more(method: str, to_clean: bool) -> None:
    denoise = Calls(gaussian)
    per_step = TORCHSDE[method]
    for nfe in (*range(1, 13), 59, 60):
        if nfe < per_step + to_clean:
            message = rf"nfe must be at least {per_step + to_clean} for torchsde method {method}, got {nfe}"
            with pytest.raises(ValueError, match=message):
                prepare(TorchSDE(method), VPSDE(), nfe, to_clean=to_clean)
            continue
        run = prepare(TorchSDE(method), VPSDE(), nfe, to_clean=to_clean)
        assert isinstance(run, Integration)
        denoise.levels.clear()
        run.integrate(denoise, torch.ones(1, 1), lambda i: torch.ones(1, 1))
        assert run.nfe is not None
        assert denoise.calls == run.nfe <= nfe < run.nfe + per_step
        assert all(1e-3 <= level.t <= 1.0 for level in denoise.levels)


def test_torchsde_takes_listed_times_and_needs_a_budget() -> None:
    run = prepare(TorchSDE("heun"), VPSDE(), 50, AtTimes([0.9, 0.5, 0.1]))
    assert (run.start.t, run.end.t, run.nfe) == (0.9, 0.1, 4)
    with pytest.raises(ValueError, match="nfe must be at least 4 for torchsde method heun, got 3"):
        prepare(TorchSDE("heun"), VPSDE(), 3, AtTimes([0.9, 0.5, 0.1]))
    with pytest.raises(ValueError, match="nfe must be a number for torchsde, got None"):
        prepare(TorchSDE(), VPSDE(), None)


@pytest.mark.parametrize("method", [*FIXED, "dopri5", "scipy_solver"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ode_keeps_the_type_of_its_state(method: str, dtype: torch.dtype) -> None:
    run = ODE(method).prepare(VPSDE(), 60 if method in FIXED else None)
    types = set()

    def denoise(x: Tensor, level: Level[float]) -> Tensor:
        types.add(x.dtype)
        return gaussian(x, level)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        end = run.integrate(denoise, torch.ones(3, 2, dtype=dtype), None)
    assert end.dtype == dtype
    assert types == {dtype}


def test_an_integrator_steps_on_the_levels_of_the_grid() -> None:
    denoise = Calls(gaussian)
    TorchSDE("euler").prepare(VPSDE(), 6, Karras()).integrate(
        denoise, torch.ones(1, 1), lambda i: torch.ones(1, 1)
    )
    grid = Grid.build(VPSDE(), 6, Karras())
    # Through -t and back.
    assert [level.t for level in denoise.levels] == pytest.approx([t.t for t, _ in grid.steps()], abs=1e-15)
