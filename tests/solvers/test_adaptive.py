"""One step size per sample: against the loops of the papers, exact laws, and samples drawn alone; SciPy."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    VESDE,
    VPSDE,
    Counted,
    Denoiser,
    Level,
    Noise,
    Plan,
    RectifiedFlow,
    integrate,
    predict,
    sample,
)
from scoresde.plans import Vector
from scoresde.processes import CLEAN
from scoresde.solvers import DPMSolver
from scoresde.solvers.integrators.adaptive import AdaptiveSDE, DPMAdaptive
from scoresde.solvers.integrators.brownian import BrownianPath
from scoresde.solvers.integrators.controller import GROWTH
from scoresde.solvers.integrators.per_sample import PerSampleIntegrator
from scoresde.solvers.integrators.solve_ivp import SCIPY, SciPy
from scoresde.spacings import AtTimes
from tests.problems import (
    MEAN,
    SDES,
    Net,
    gaussian,
    mixture,
    normal,
    reference,
    sde_ends,
    spread,
)


def as_columns(level: Level[Any], dims: int) -> Level[Any]:
    """A level of each sample's own, in a shape that broadcasts with samples of ``dims`` axes in all."""
    return Level(*(n.reshape(-1, *[1] * (dims - 1)) if isinstance(n, Tensor) else n for n in level))


def of_gaussian(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
    return gaussian(x, as_columns(level, x.ndim))


class Rows:
    """A denoiser that remembers which samples it was asked for, and at what times."""

    def __init__(self, denoise: Any) -> None:
        self.denoise, self.rows, self.times = denoise, [], []  # type: ignore[var-annotated]

    def __call__(self, x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        self.rows.append(torch.arange(len(x)) if rows is None else rows)
        self.times.append(torch.as_tensor(level.t, dtype=torch.float64).flatten())
        return self.denoise(x, level, rows)


def draws(samples: int, size: int = 1) -> Any:
    return lambda i: normal(samples, size, seed=5000 + i)


# DPM-Solver-12 and 23.
def dpm_adaptive(x: Tensor, sde: VPSDE, order: int, rtol: float, atol: float) -> tuple[Tensor, int]:
    """2206.00927, appendix C, in the paper's formulas, for one sample; with our limits of a step."""

    def level(lam: float) -> Level[float]:
        t = sde.time_of(torch.tensor(lam, dtype=torch.float64))
        return Level(*torch.stack(sde.level(t)).tolist())

    def eps(x: Tensor, at: Level[float]) -> Tensor:
        return (x - at.alpha * mixture(x, at)) / at.sigma

    start, end = sde_ends(sde)
    lam, h, x_prev, calls = start.lam, 0.05, x, 0
    while lam < end.lam:
        s, t = level(lam), level(lam + h)
        e, calls = eps(x, s), calls + order
        first = t.alpha / s.alpha * x - t.sigma * math.expm1(h) * e
        r1 = 1 / order
        m = level(lam + r1 * h)
        u = m.alpha / s.alpha * x - m.sigma * math.expm1(r1 * h) * e
        d1 = eps(u, m) - e
        second = first - t.sigma / (2 * r1) * math.expm1(h) * d1
        low, high = first, second
        if order == 3:
            m2, k = level(lam + 2 * h / 3), 2 * h / 3
            u2 = m2.alpha / s.alpha * x - m2.sigma * math.expm1(k) * e
            d2 = eps(u2 - 2 * m2.sigma * (math.expm1(k) / k - 1) * d1, m2) - e
            low, high = second, first - 1.5 * t.sigma * (math.expm1(h) / h - 1) * d2
        delta = torch.clamp(rtol * torch.maximum(low.abs(), x_prev.abs()), min=atol)
        error = ((high - low) / delta).square().mean().sqrt().item()
        if error <= 1:
            x_prev, x = low, high
            lam = end.lam if h >= end.lam - lam else lam + h
        h = min(h * min(0.9 * error ** (-1 / order), GROWTH), 1.5, end.lam - lam)
    return x, calls


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_is_the_algorithm_of_its_paper_for_every_sample(order: int) -> None:
    sde, x = VPSDE(), normal(9, 6)
    ours = DPMAdaptive(order).carry_out(rowwise, x, None, sde)
    papers = [dpm_adaptive(one, sde, order, 0.05, 0.0078) for one in x]
    assert ours.calls.tolist() == [calls for _, calls in papers]
    assert len(set(ours.calls.tolist())) > 1  # the samples have steps of their own
    # E is rounded to float32, and with it the steps: 1e-7 of solutions that are good to 5e-2.
    torch.testing.assert_close(ours.x, torch.stack([x for x, _ in papers]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("sde", SDES)
def test_the_tolerance_of_dpm_adaptive_decides_its_error(sde: str, order: int) -> None:
    """Samples of ten numbers: in one dimension E is 0 by chance now and then, and lets a step pass."""
    x, exact = (points[:40].reshape(10, 4).mT for points in reference(sde))
    errors = []
    for tolerance in (1e-2, 1e-3):
        end = DPMAdaptive(order, rtol=tolerance, atol=tolerance).carry_out(rowwise, x, None, SDES[sde]).x
        errors.append((end - exact).square().mean(1).sqrt().max().item())
    # A step's error, that of the low order, is what is held: of the worst sample a few of them add up.
    assert errors[0] < 4e-2
    assert errors[1] < min(4e-3, errors[0] / 3)


@pytest.mark.parametrize("sde", SDES)
def test_no_step_passes_over_the_data_even_in_one_dimension(sde: str) -> None:
    """At the default tolerance, against 150 steps of DPM-Solver-3, evenly spread in the quantiles."""
    start, _ = sde_ends(SDES[sde])
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)
    x = math.hypot(start.alpha, start.sigma) * quantiles
    exact = integrate(Plan.make(DPMSolver(3), SDES[sde], 150), mixture, x)

    def run(h_max: float) -> tuple[float, float, float]:
        solved = DPMAdaptive(3, h_max=h_max).carry_out(rowwise, x[:, None], None, SDES[sde])
        end, calls = solved.x[:, 0], solved.calls.double().mean().item()
        return (end - exact).square().mean().sqrt().item(), abs((end.std() - exact.std()).item()), calls

    error, deviation, calls = run(DPMAdaptive(3).h_max)
    # A third of the tolerance, 0.05, where steps without a limit leave 0.04 to 0.10, and up to 0.05 in the
    # deviation; and they are no fewer.
    assert error < 0.017
    assert deviation < 0.01
    unlimited, _, more = run(math.inf)
    assert error < unlimited / 2
    assert calls < more


def rowwise(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
    """The mixture's denoiser, for x ``(B, D)``, each row at its level."""
    return mixture(x, Level(*(n[:, None, None] for n in level)))


def test_dpm_adaptive_takes_the_same_run_on_every_process() -> None:
    """All is one process in x / alpha and lam; a tolerance relative to sigma = 152 would not see it so."""
    vp, x = VPSDE(), normal(5, 3)
    start, end = sde_ends(vp)
    edm = EDM(math.exp(-end.lam), math.exp(-start.lam))
    for order in (2, 3):
        by_vp = DPMAdaptive(order).carry_out(rowwise, x, None, vp)
        by_edm = DPMAdaptive(order).carry_out(rowwise, x / start.alpha, None, edm)
        assert torch.equal(by_vp.calls, by_edm.calls)
        torch.testing.assert_close(by_vp.x / end.alpha, by_edm.x, rtol=1e-5, atol=1e-5)  # E's float32


@pytest.mark.parametrize("order", [2, 3])
def test_dpm_adaptive_carries_a_point_mass_exactly(order: int) -> None:
    """The noise of every sample stays what it was, and E is 0: steps grow by 2 to the longest there is."""
    for sde in (VPSDE(), EDM(), RectifiedFlow(t_max=0.99)):
        start, end = sde_ends(sde)
        noise = normal(4, 2)
        ones = lambda x, level, rows: torch.ones_like(x)  # noqa: E731
        solved = DPMAdaptive(order).carry_out(ones, start.alpha + start.sigma * noise, None, sde)
        torch.testing.assert_close(solved.x, end.alpha + end.sigma * noise, rtol=0, atol=1e-11)
        steps = math.ceil((end.lam - start.lam - 0.05 * 31) / 1.5) + 5  # 0.05 (1 + 2 + 4 + 8 + 16), then 1.5
        assert solved.calls.tolist() == [order * steps] * 4


# What all of them have in common.
PAIRS: dict[str, PerSampleIntegrator] = {
    "12": DPMAdaptive(2),
    "23": DPMAdaptive(3),
    "em": AdaptiveSDE(rtol=1.0, atol=0.3),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_sample_is_the_same_alone_and_in_any_batch(name: str) -> None:
    """To the last bit, noise, condition and all, if the network treats each sample by itself."""
    denoiser = Denoiser(Net(), VPSDE(), predict.data)
    cond, ids = torch.tensor([0.0, 3.0, 1.0, -2.0, 0.5]), torch.tensor([7, 1, 40, 3, 2])
    whole = sample(denoiser, PAIRS[name], (5, 3), cond=cond, ids=ids)
    assert torch.equal(sample(denoiser, PAIRS[name], (5, 3), cond=cond, ids=ids, batch_size=2), whole)
    for i in range(5):
        alone = sample(denoiser, PAIRS[name], (1, 3), cond=cond[i : i + 1], ids=ids[i : i + 1])
        assert torch.equal(alone[0], whole[i])
    assert not torch.equal(sample(denoiser, PAIRS[name], (5, 3), ids=ids), whole)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_samples_that_are_done_leave_the_batch(name: str, to_clean: bool) -> None:
    sde, ask = VPSDE(), Rows(of_gaussian)
    # A sample far from the data has more to do than one at its mean.
    x = torch.tensor([[0.0], [1.0], [9.0], [-30.0]], dtype=torch.float64)
    solved = PAIRS[name].carry_out(ask, x, draws(4), sde, to_clean=to_clean)
    sizes = [len(rows) for rows in ask.rows[: -1 if to_clean else None]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] == 4
    assert solved.calls.tolist() == torch.bincount(torch.cat(ask.rows)).tolist()
    assert int(solved.calls.max()) == len(ask.rows)
    times = torch.cat(ask.times)
    assert sde.t_min <= times.min() <= times.max() <= sde.t_max
    run = PAIRS[name].prepare(sde, None, to_clean=to_clean)
    assert torch.equal(run.integrate(of_gaussian, x, draws(4)), solved.x)
    assert (run.end == CLEAN) == to_clean


def test_counted_tells_the_mean_and_the_most_calls_of_a_sample() -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    sample(denoiser, PAIRS["12"], (50, 2), dtype=torch.float64)
    net = Denoiser(Net(), VPSDE(), predict.noise)
    run = PAIRS["12"].prepare(VPSDE(), None)
    ask = Rows(lambda x, level, rows: net(x, level))
    run.integrate(ask, run.start.sigma * Noise(0, torch.arange(50), (2,))(0).double(), None)
    each = torch.bincount(torch.cat(ask.rows))
    assert (denoiser.calls, denoiser.evaluations) == (int(each.max()), int(each.sum()))


@pytest.mark.parametrize("name", PAIRS)
def test_a_budget_is_kept_by_every_sample(name: str) -> None:
    solver, denoiser = PAIRS[name], Counted(Denoiser(Net(), VPSDE(), predict.noise))
    for to_clean in (False, True):
        denoiser.calls = 0
        unlimited = sample(denoiser, solver, (6, 2), to_clean=to_clean)
        needed = denoiser.calls
        assert torch.equal(sample(denoiser, solver, (6, 2), nfe=needed, to_clean=to_clean), unlimited)
        denoiser.calls = 0
        message = r"is not done after \d+ network calls: \d of 6 samples are left, .* of its way to go; raise"
        with pytest.raises(RuntimeError, match=message):
            sample(denoiser, solver, (6, 2), nfe=needed - 1, to_clean=to_clean)
        assert needed - 1 - solver.calls_per_attempt - to_clean <= denoiser.calls < needed
        with pytest.raises(
            ValueError, match=f"nfe must be at least {solver.calls_per_attempt + to_clean} for"
        ):
            solver.prepare(VPSDE(), solver.calls_per_attempt + to_clean - 1, to_clean=to_clean)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_of_any_type_and_rank(name: str, dtype: torch.dtype) -> None:
    for shape in ((3,), (3, 1), (2, 1, 2, 2)):
        x = sample(Denoiser(Net(), EDM(), predict.edm()), PAIRS[name], shape, dtype=dtype)
        assert (x.shape, x.dtype) == (shape, dtype)
        assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", PAIRS)
def test_a_network_that_is_not_finite_is_named(name: str) -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None] < 0.5, math.nan, 0.1 * x)

    with pytest.raises(
        FloatingPointError, match=r"network's output is not finite in call \d+, at t = 0\.[0-4]"
    ):
        sample(Denoiser(net, VPSDE(), predict.data), PAIRS[name], (4, 2))
    with pytest.raises(FloatingPointError, match="takes steps so short that they lead nowhere"):
        PAIRS[name].carry_out(lambda x, level, rows: x * math.nan, normal(2, 2), draws(2, 2), VPSDE())


@pytest.mark.parametrize("name", PAIRS)
def test_listed_times_give_the_ends(name: str) -> None:
    x = normal(4, 2)
    by_list = PAIRS[name].carry_out(of_gaussian, x, draws(4, 2), VPSDE(), spacing=AtTimes([0.9, 0.5, 0.1]))
    by_ends = PAIRS[name].carry_out(of_gaussian, x, draws(4, 2), VPSDE(t_min=0.1, t_max=0.9))
    torch.testing.assert_close(by_list.x, by_ends.x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "options", "message"),
    [
        (DPMAdaptive, {"order": 1}, "order must be 2 or 3, got 1"),
        (DPMAdaptive, {"rtol": 0.0}, "rtol must be positive and finite, got 0.0"),
        (AdaptiveSDE, {"atol": math.nan}, "atol must be positive and finite, got nan"),
        (AdaptiveSDE, {"h_init": -1.0}, "h_init must be positive and finite, got -1.0"),
        (DPMAdaptive, {"h_max": 0.0}, "h_max must be positive, got 0.0"),
        (DPMAdaptive, {"theta": 1.0}, "theta must be positive and at most 0.99, got 1.0"),
        (AdaptiveSDE, {"r": 0.3}, r"r must be in \[0.5, 1\], got 0.3"),
    ],
)
def test_parameters_that_cannot_be(solver: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solver(**options)


# The adaptive SDE solver.
def test_adaptive_em_is_its_papers_where_no_step_is_refused() -> None:
    """2105.14080, one sample, in t; of a refused step ours keeps the noise, which is another algorithm."""
    sde, size = VPSDE(), 3
    rtol, atol = 20.0, 20.0
    z = draws(1, size)
    x = x_prev = normal(1, size, seed=3)
    t, h, i, ours = sde.t_max, 0.01 * (sde.t_max - sde.t_min), 0, x

    def drift(x: Tensor, t: float) -> tuple[Tensor, float]:
        at = torch.tensor(t, dtype=torch.float64)
        level = Level(*torch.stack(sde.level(at)).tolist())
        score = (level.alpha * mixture(x, level) - x) / level.sigma**2
        return sde.reverse_drift(x, at, score), sde.diffusion2(at).sqrt().item()

    while t > sde.t_min:
        f, g = drift(x, t)
        first = x - h * f + math.sqrt(h) * g * z(i)
        f, g = drift(first, t - h)
        second = (first + x - h * f + math.sqrt(h) * g * z(i)) / 2
        delta = torch.clamp(rtol * torch.maximum(first.abs(), x_prev.abs()), min=atol)
        error = ((first - second) / delta).square().mean().sqrt().item()
        assert error <= 1
        x, x_prev, t, i = second, first, sde.t_min if h >= t - sde.t_min else t - h, i + 1
        h = min(h * min(0.9 * error**-0.9, GROWTH), t - sde.t_min)
    solved = AdaptiveSDE(rtol, atol).carry_out(rowwise, ours, z, sde)
    assert solved.calls.tolist() == [2 * i]
    assert i > 5
    torch.testing.assert_close(solved.x, x, rtol=1e-5, atol=1e-5)  # E is float32


def test_a_refused_step_leaves_its_noise_on_the_path() -> None:
    """Halves of a half of a step: the pieces add up to the increment that was drawn first."""
    path = BrownianPath(torch.zeros(2, 1, dtype=torch.float64), draws(2))
    rows, one = torch.tensor([1]), torch.ones(1, dtype=torch.float64)
    h, whole = path.ahead(rows, one)
    assert (h.item(), whole.item()) == (1.0, draws(2)(0)[1].item())
    _, half = path.ahead(rows, 0.5 * one)
    assert half.item() == pytest.approx(whole.item() / 2 + 0.5 * draws(2)(1)[1].item(), abs=1e-15)
    pieces, lengths = [], []
    for wanted in (0.2, 0.9, 0.9, 3.0):  # what is known ahead limits a step
        h, w = path.ahead(rows, wanted * one)
        path.passed(rows)
        pieces.append(w.item())
        lengths.append(h.item())
    assert lengths == pytest.approx([0.2, 0.3, 0.5, 3.0], abs=1e-15)
    assert sum(pieces[:2]) == pytest.approx(half.item(), abs=1e-15)
    assert sum(pieces[:3]) == pytest.approx(whole.item(), abs=1e-15)


class Scripted(PerSampleIntegrator):
    """Steps in t whose errors are those of a list, and then none; the state stays as it is."""

    rtol, atol, h_init, theta, h_max = 1.0, 1e-9, 0.1, 0.99, math.inf
    stochastic, calls_per_attempt, exponent = True, 2, 1.0  # type: ignore[assignment]

    def __init__(self, errors: list[float]) -> None:
        self.errors, self.lengths = errors, list[float]()

    def time(self, level: Level[float]) -> float:
        return -level.t

    def embedded_pair(self, samples: Any, sde: Any, begin: Tensor, end: Tensor) -> Any:
        x, level = Vector({"x": 1.0}), sde.level(-end)
        self.lengths.append((end - begin).item())
        error = self.errors.pop(0) if self.errors else 1e-9
        return x, (1 + error) * x, level


def test_a_step_that_its_path_cut_short_does_not_shorten_the_next() -> None:
    """A refused step leaves a short piece of its path, which is taken whole; then the step is as wanted."""
    sde = VPSDE(t_min=0.001)  # on which a state of 1 is 1 in its unit, and so an error is what the list says
    x = torch.ones(1, 1, dtype=torch.float64)
    good = Scripted([1.005])
    solved = good.carry_out(lambda x, level, rows: x, x, draws(1, 1), sde)
    retried = 0.1 * 0.99 / 1.005
    expected = [0.1, retried, 0.1 - retried, 2 * retried, 4 * retried]
    assert good.lengths == pytest.approx([*expected, 0.999 - sum(expected[1:])], rel=1e-5)  # E is float32
    assert solved.calls.tolist() == [2 * 6]
    # One that was refused says how long it may be, though it was cut short.
    refused = Scripted([1.005, 1e-9, 2.0])
    refused.carry_out(lambda x, level, rows: x, x, draws(1, 1), sde)
    assert refused.lengths[2:4] == pytest.approx([0.1 - retried, (0.1 - retried) * 0.99 / 2], rel=1e-5)


def test_refused_steps_do_not_bias_the_noise() -> None:
    """Where there is noise and nothing else, its variance is known; E is large just where the noise is."""
    sde, n = VESDE(), 4000
    start, end = sde_ends(sde)
    rejecting = AdaptiveSDE(rtol=0.1, atol=0.03)
    nothing = lambda x, level, rows: x  # noqa: E731
    x = rejecting.carry_out(nothing, torch.zeros(n, 1, dtype=torch.float64), draws(n), sde).x
    # Standard error of the variance sqrt(2 / 4000) = 2.2 %; fresh noise for refused steps is 39 % off.
    assert x.var().item() / (start.sigma**2 - end.sigma**2) == pytest.approx(1, abs=4 * 0.0224)


@pytest.mark.parametrize("name", ["vp", "edm"])
def test_adaptive_em_has_the_law_of_gaussian_data(name: str) -> None:
    sde, n = SDES[name], 1500
    start, end = sde_ends(sde)
    x = start.alpha * MEAN + spread(start) * normal(n, 1, seed=4)
    errors = []
    for rtol in (2.0, 0.05):
        x_end = AdaptiveSDE(rtol, rtol / 3).carry_out(of_gaussian, x, draws(n), sde).x
        errors.append((abs(x_end.mean().item() - end.alpha * MEAN), abs(x_end.std().item() - spread(end))))
    # Standard errors of 1,500 samples: s / sqrt(n) and s / sqrt(2 n), s = 0.5; fresh noise is 0.27 off.
    assert errors[1][0] < 4 * 0.0129
    assert errors[1][1] < 4 * 0.0091
    assert errors[0][1] > 2 * errors[1][1]  # the tolerance decides


# scipy.
@pytest.mark.parametrize("method", SCIPY)
def test_every_method_of_scipy_finds_the_solution(method: str) -> None:
    for name in ("vp", "edm"):
        x, exact = reference(name)
        run = SciPy(method, 1e-6, 1e-7).prepare(SDES[name], None)
        # Tolerances are of a step, in x / (alpha + sigma), and of the mean of all states.
        assert (run.integrate(mixture, x[:, None], None)[:, 0] - exact).abs().max() < 2e-4


def test_a_jacobian_of_scipy_costs_the_numbers_of_one_sample() -> None:
    """Samples do not depend on one another, and an implicit method receives this structure."""
    calls = {}
    for n in (2, 40):
        ask = Rows(lambda x, level, rows: gaussian(x, level))
        SciPy("BDF").prepare(VPSDE(), None).integrate(ask, normal(n, 2), None)
        calls[n] = len(ask.rows)
    assert calls[40] < 1.5 * calls[2]  # 3 calls a Jacobian; 81 if every number were tried


def test_scipy_keeps_its_limit_type_and_ends() -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    for dtype in (torch.float32, torch.float64):
        assert sample(denoiser, SciPy(), (2, 2), dtype=dtype).dtype == dtype
    denoiser.calls = 0
    clean = sample(denoiser, SciPy(), (2, 2), to_clean=True)
    needed = denoiser.calls
    assert torch.equal(sample(denoiser, SciPy(), (2, 2), nfe=needed, to_clean=True), clean)
    with pytest.raises(RuntimeError, match=f"not done after {needed - 1} network calls, at t = "):
        sample(denoiser, SciPy(), (2, 2), nfe=needed - 1, to_clean=True)
    assert (SciPy().prepare(VPSDE(), None, AtTimes([0.9, 0.1])).start.t) == 0.9
    with pytest.raises(ValueError, match=r"method must be one of RK23, .*, got 'rk4'"):
        SciPy("rk4")
    with pytest.raises(ValueError, match="rtol and atol must be positive"):
        SciPy(rtol=0.0)


@pytest.mark.parametrize("method", SCIPY)
def test_a_network_that_is_not_finite_stops_scipy(method: str) -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None] < 0.5, math.nan, 0.1 * x)

    with pytest.raises(
        FloatingPointError, match=r"network's output is not finite in call \d+, at t = 0\.[0-4]"
    ):
        sample(Denoiser(net, VPSDE(), predict.data), SciPy(method), (2, 2))


def test_scipy_says_where_it_gives_up() -> None:
    kinked = lambda x, level: (1e30 if level.t < 0.5 else 1.0) * x.sign()  # noqa: E731
    with pytest.raises(FloatingPointError, match="gave up before its end"):
        SciPy("RK45", 1e-13, 1e-300).prepare(VPSDE(), None).integrate(kinked, normal(2, 2), None)
