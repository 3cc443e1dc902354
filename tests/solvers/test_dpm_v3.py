"""DPM-Solver-v3: its limits, the paper's formulas, its order; what its statistics are, and how measured."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from scoresde import (
    EDM,
    VPSDE,
    ExactDenoiser,
    Level,
    Mixture,
    Plan,
    RectifiedFlow,
    UniformLambda,
    integrate,
    iterate,
)
from scoresde.processes import CLEAN
from scoresde.solvers import DPMSolver, DPMSolverPP
from scoresde.solvers.dpm_v3 import DPMSolverV3
from scoresde.solvers.empirical_statistics import Statistics
from scoresde.spacings import Grid
from scoresde.tuning.measure_statistics import model_statistics
from tests.problems import MEANS, SDES, SHARES, STDS, gaussian, mixture, normal, point_mass
from tests.solvers.test_order import measured_order

DATA = Statistics((-1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
NOISE = Statistics((-9.0, 9.0), (0.0, 0.0), (9.0, -9.0))


class Exact:
    """A denoiser in closed form, over more levels than any process of the tests has."""

    def __init__(self, estimate: Any, sde: Any = None) -> None:
        self.estimate, self.sde = estimate, sde or EDM(1e-3, 200.0)

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        return self.estimate(x, level)


def draws(n: int) -> Tensor:
    """Data of the mixture, evenly spread in its quantiles."""
    parts = [
        mean + std * torch.special.ndtri((torch.arange(k, dtype=torch.float64) + 0.5) / k)
        for mean, std, k in zip(MEANS, STDS, (SHARES * n).round().int().tolist(), strict=True)
    ]
    return torch.cat(parts)


@pytest.fixture(scope="module")
def measured() -> Statistics:
    return model_statistics(Exact(mixture), draws(2000)[:, None])


def exponential_multistep(form: str, order: int, corrector: bool, grid: Grid, x: Tensor) -> Tensor:
    """Variation of constants in the noise or the data, the polynomial by its coefficients, the integrals of
    exp(+-v) v^n by recursion."""
    past: list[tuple[float, Tensor]] = []
    before = x

    def step(t: Level[float], s: Level[float], x: Tensor, nodes: list[tuple[float, Tensor]]) -> Tensor:
        h = s.lam - t.lam
        powers = np.vander([lam - t.lam for lam, _ in nodes], increasing=True)
        integral = [math.expm1(h)] if form == "noise" else [-math.expm1(-h)]
        for n in range(1, len(nodes)):
            sign = 1 if form == "noise" else -1
            integral.append(sign * (n * integral[-1] - h**n))
        weights = np.linalg.solve(powers.T, integral)
        total = sum(w * value for w, (_, value) in zip(weights, nodes, strict=True))
        if form == "noise":
            return s.alpha / t.alpha * x - s.sigma * total
        return s.sigma / t.sigma * x + s.alpha * total

    last = None
    for t, s in grid.steps():
        d = mixture(x, t)
        past = [(t.lam, (x - t.alpha * d) / t.sigma if form == "noise" else d), *past]
        if corrector and last is not None:
            x = step(last, t, before, past[: order + 1])
        past, last, before = past[:order], t, x
        x = step(t, s, x, past)
    return x


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("sde", SDES)
def test_degenerate_statistics_are_the_data_and_the_noise_form(sde: str, order: int, corrector: bool) -> None:
    """l = 1, s = 0: DPM-Solver++; l = 0, s = -1: DPM-Solver; the corrector's output is at the predicted
    state."""
    grid, x = Grid.build(SDES[sde], 12, lambda p, n: p.time_of(_uneven(p, n))), normal(20)
    x = grid.levels[0].sigma * x
    for form, statistics in (("data", DATA), ("noise", NOISE)):
        solver = DPMSolverV3(statistics, order, (order + 1) * corrector)
        plan = Plan.make(solver, SDES[sde], 12, lambda p, n: p.time_of(_uneven(p, n)))
        theirs = exponential_multistep(form, order, corrector, grid, x)
        # The recursion of the test loses h^-3 digits, of which its steps leave four; states begin at 100.
        torch.testing.assert_close(integrate(plan, mixture, x), theirs, rtol=1e-10, atol=1e-10)


def _uneven(sde: Any, n: int) -> Tensor:
    """Half log-SNRs whose steps grow by a half from first to last."""
    first, last = sde.lam(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).tolist()
    place = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    return first + (last - first) * (0.8 * place + 0.2 * place**2)


def test_its_data_form_is_the_table_of_dpmpp_3m() -> None:
    """From the third step on, weight by weight; before it, DPM-Solver++(2M) takes another form of order 2."""
    plan = Plan.make(DPMSolverV3(DATA, 3, 0), VPSDE(), 6)
    ours, theirs = dict(plan.lines[-1].row), dict(Plan.make(DPMSolverPP(3), VPSDE(), 6).lines[-1].row)
    held = {line.name: line.row for line in plan.lines if line.kind == "point"}
    assert abs(ours.pop("d0", 0.0)) < 1e-12  # the centre, added and taken away
    assert all(held.get(name, ((name, 1.0),))[0][1] == 1.0 for name in ours)
    assert {name.replace("h", "d"): weight for name, weight in ours.items()} == pytest.approx(
        theirs, rel=1e-10
    )


def papers(
    statistics: Statistics, predictor: int, corrector: int, pseudo: str, grid: Grid, x: Tensor
) -> Tensor:
    """Zheng et al. 2023, Algorithm 2 with f, g, l, s and b as they are there, b = (s l - l') c, every
    integral that of a spline through 8,000 points; derivative k by their eq. 13, or if pseudo 15."""
    l = CubicSpline(statistics.lam, statistics.linear)  # noqa: E741
    s_ = CubicSpline(statistics.lam, statistics.log_rms).derivative()
    centre = mixture(x, grid.levels[0])

    def step(
        t: Level[float], s: Level[float], x: Tensor, nodes: list[tuple[float, Tensor]], of_all: bool
    ) -> Tensor:
        lam = np.linspace(min(at for at, _ in nodes), s.lam, 8001)

        def integral(rate: np.ndarray) -> CubicSpline:
            area = CubicSpline(lam, rate).antiderivative()
            return lambda at: area(at) - area(t.lam)

        big_l, big_s = integral(l(lam)), integral(s_(lam))
        big_b = integral(np.exp(-big_s(lam)) * (s_(lam) * l(lam) - l(lam, 1)))  # times c
        on = np.exp(big_l(lam) + big_s(lam))
        total = float(integral(on * big_b(lam))(s.lam)) * centre
        away = np.vander([at - t.lam for at, _ in nodes], increasing=True)
        values = [np.exp(-big_s(at)) * f - float(big_b(at)) * centre for at, f in nodes]
        for k in range(len(nodes)):
            power = float(integral(on * (lam - t.lam) ** k)(s.lam))
            known = len(nodes) if of_all else k + 1
            for share, value in zip(np.linalg.inv(away[:known, :known])[k], values, strict=False):
                total = total + power * share * value
        return s.alpha * math.exp(-big_l(s.lam)) * (x / t.alpha - total)

    past: list[tuple[float, Tensor]] = []
    last, before = None, x
    for t, s in grid.steps():
        eps = (x - t.alpha * mixture(x, t)) / t.sigma
        past = [(t.lam, (t.sigma * eps - float(l(t.lam)) * x) / t.alpha), *past]
        if corrector and last is not None:
            nodes = [past[1], past[0], *past[2:corrector]]  # from the step's beginning, the nearest first
            x = step(last, t, before, nodes, pseudo not in ("corrector", "both"))
        last, before = t, x
        x = step(t, s, x, past[:predictor], pseudo not in ("predictor", "both"))
    return x


# Predictor and corrector: every order, and the combinations of the paper's experiments.
ALL = [(p, c, "none") for p in (1, 2, 3) for c in (0, p + 1)]
THEIRS = [(3, 3, "none"), (3, 3, "predictor"), (2, 3, "corrector"), (3, 4, "corrector"), (3, 4, "both")]


@pytest.mark.parametrize(("predictor", "corrector", "pseudo"), ALL + THEIRS)
def test_it_is_the_papers_with_its_b(
    measured: Statistics, predictor: int, corrector: int, pseudo: str
) -> None:
    """The centre c stands for b, exactly."""
    sde = SDES["vp"]
    plan = Plan.make(DPMSolverV3(measured, predictor, corrector, pseudo), sde, 6, UniformLambda())
    x = normal(20)
    grid = Grid.build(sde, 6, lambda p, n: p.time_of(_even(p, n)))
    theirs = papers(measured, predictor, corrector, pseudo, grid, x)
    # Rounding of their B, which exp(S) multiplies by a thousand and more.
    torch.testing.assert_close(integrate(plan, mixture, x), theirs, rtol=1e-7, atol=1e-7)


def _even(sde: Any, n: int) -> Tensor:
    first, last = sde.lam(torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)).tolist()
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


@pytest.mark.parametrize(("predictor", "corrector"), [(p, c) for p, c, _ in ALL])
@pytest.mark.parametrize("sde", SDES)
def test_order(measured: Statistics, sde: str, predictor: int, corrector: int) -> None:
    """h^(p + 1) is felt at these steps: predictor 2 with its corrector is at 2.74 to 2.89 here, at 2.92 to
    2.96 with twice as many."""
    solver = DPMSolverV3(measured, predictor, corrector)
    assert solver.order == predictor + bool(corrector)
    assert measured_order(solver, sde) == pytest.approx(solver.order, abs=0.3 if solver.order == 3 else 0.12)


@pytest.mark.parametrize(
    ("predictor", "corrector", "pseudo", "order"),
    [
        (3, 3, "none", 3),
        (3, 2, "none", 2),
        (3, 0, "predictor", 2),
        (3, 3, "predictor", 3),
        (2, 3, "corrector", 2),
        (3, 4, "both", 2),
    ],
)
def test_order_of_other_pairs(
    measured: Statistics, predictor: int, corrector: int, pseudo: str, order: int
) -> None:
    solver = DPMSolverV3(measured, predictor, corrector, pseudo)
    assert solver.order == order
    assert measured_order(solver, "vp", steps=320) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("corrector", [False, True])
def test_data_that_is_moved_gives_samples_that_are_moved(measured: Statistics, corrector: bool) -> None:
    """By what the centre is for; and data that is one number, seen without noise, is kept."""
    sde, by = SDES["vp"], 3.0
    plan = Plan.make(DPMSolverV3(measured, 3, 4 * corrector), sde, 7)
    x = normal(9)
    moved = integrate(plan, lambda x, at: mixture(x - at.alpha * by, at) + by, x + plan.start.alpha * by)
    here = integrate(plan, mixture, x)
    # Rounding at the start, where x / alpha is 150.
    torch.testing.assert_close(moved, here + plan.end.alpha * by, rtol=1e-10, atol=1e-10)
    one = torch.ones(3).double()
    end = integrate(plan, lambda x, at: point_mass(x, at, one), plan.start.alpha * one)
    torch.testing.assert_close(end, plan.end.alpha * one, rtol=1e-12, atol=0)


def test_both_ends_are_steps_of_order_1(measured: Statistics) -> None:
    plan = Plan.make(DPMSolverV3(measured), RectifiedFlow(), 6, to_clean=True)
    assert plan.start.alpha == 0
    assert plan.end == CLEAN
    assert plan.nfe == 6
    assert plan.lines[-1].row == (("d5", 1.0),)
    assert dict(plan.lines[1].row).keys() == {"x0", "d0"}
    before, after = list(iterate(plan, mixture, normal(9)))[-2:]
    torch.testing.assert_close(after, mixture(before, plan.levels[-1]), rtol=0, atol=0)
    assert Plan.make(DPMSolverV3(measured), EDM(), 1).nfe == 1


def test_it_keeps_no_more_of_the_past_than_it_needs(measured: Statistics) -> None:
    """The first output, f at three levels, the last state, the predicted one and its output."""
    plan, live, most = Plan.make(DPMSolverV3(measured), VPSDE(), 50), {"x0"}, 0
    for line in plan.lines:
        live.add(line.name)
        most = max(most, len(live))
        live -= set(line.done)
    assert most == 7
    assert len([line for line in plan.lines if line.kind == "state"]) == 50  # predictions are no states


@pytest.fixture(scope="module")
def error() -> Callable[[Any, int], float]:
    """Of a solver in so many calls, on 32 components in 64 dimensions; given a part of DPM-Solver-v3's
    arguments, of that by its own statistics."""
    means, stds = 0.5 * normal(32, 64, seed=64), torch.linspace(0.05, 0.25, 32, dtype=torch.float64)
    problem = Mixture(means, stds, torch.full_like(stds, 1 / 32))
    sde = VPSDE().clip(-math.log(80), -math.log(0.002))
    exact = ExactDenoiser(problem, sde)
    statistics = model_statistics(exact, problem.sample(500), points=50)
    x = normal(200, 64)
    converged = integrate(Plan.make(DPMSolver(3), sde, 150, UniformLambda()), exact, x)

    def error(solver: Any, nfe: int) -> float:
        solver = DPMSolverV3(statistics, *solver) if isinstance(solver, tuple) else solver
        end: Tensor = integrate(Plan.make(solver, sde, nfe, UniformLambda()), exact, x)
        return (end - converged).square().mean().sqrt().item()

    return error


@pytest.mark.parametrize("nfe", [5, 6, 8])
def test_it_is_better_than_dpmpp_at_few_calls(error: Callable[[Any, int], float], nfe: int) -> None:
    """The last of the others has its corrector."""
    others = [error(solver, nfe) for solver in (DPMSolverPP(2), DPMSolverPP(3), DPMSolverV3(DATA))]
    assert error((), nfe) < 0.85 * min(others)


def test_a_pseudo_predictor_is_for_few_calls(error: Callable[[Any, int], float]) -> None:
    """What three outputs say of the second derivative is too much for long steps: 0.65 to 0.80 of the error
    at 5 to 8 calls, 6 times it at 15."""
    for nfe, least, most in ((5, 0, 0.81), (6, 0, 0.81), (8, 0, 0.81), (15, 4, 8)):
        assert least < error((3, 3, "predictor"), nfe) / error((3, 3), nfe) < most


def test_statistics_of_a_normal_law_are_known() -> None:
    """l = sigma^2 / (alpha^2 std^2 + sigma^2), and f = l (c - mean), so that s = l' / l."""
    sde = EDM(1e-2, 30.0)
    found = model_statistics(Exact(gaussian, sde), normal(400, 3), points=30, batch_size=170)
    lam = np.array(found.lam)
    l = 1 / (1 + 0.25 * np.exp(2 * lam))  # noqa: E741
    assert found.linear == pytest.approx(l, abs=1e-9)
    # Where l is 0.1, f is 3e-5 of the numbers that it is a difference of, and its square 1e-9.
    shift = (np.array(found.log_rms) - np.log(l))[l > 0.1]
    assert shift == pytest.approx(shift[0], abs=1e-5)


def definitions(lam: float, linear: float, slope: float) -> tuple[float, float, float, float]:
    """The paper's l; s and b by least squares, f' along the ODE; log rms of f: by quadrature."""
    sigma = math.exp(-lam)
    u = torch.linspace(-12 * (1 + sigma), 12 * (1 + sigma), 60001, dtype=torch.float64)
    var = STDS**2 + sigma**2
    density = (SHARES * torch.exp(-0.5 * (u[:, None] - MEANS) ** 2 / var) / var.sqrt()).sum(1)
    mean = lambda value: float((value * density).sum() / density.sum())  # noqa: E731

    u, at = u.requires_grad_(), torch.full_like(u, lam)[:, None].requires_grad_()
    n = u - mixture(u, Level(math.nan, 1.0, torch.exp(-at), at))  # type: ignore[arg-type]
    n_u, n_lam = torch.autograd.grad(n.sum(), (u, at))
    u, n = u.detach(), n.detach()
    n_ode = n_lam[:, 0] - n * n_u
    centre = float(SHARES @ MEANS)
    f, f_ode = n - linear * (u - centre), n_ode - slope * (u - centre) + linear * n
    s = (mean(f * f_ode) - mean(f) * mean(f_ode)) / (mean(f * f) - mean(f) ** 2)
    raw, raw_ode = n - linear * u, n_ode - slope * u + linear * n
    return mean(n_u), s, mean(raw_ode) - s * mean(raw), 0.5 * math.log(mean(f * f))


@pytest.mark.parametrize("lam", [-2.0, -0.5, 0.3, 1.0, 1.7])
def test_statistics_are_the_papers(measured: Statistics, lam: float) -> None:
    """s is d log rms(f) / dlam, b is (s l - l') times the data's mean; and they are what is measured."""
    h = 1e-3
    before, now, after = (definitions(at, 0.0, 0.0)[0] for at in (lam - h, lam, lam + h))
    slope = (after - before) / (2 * h)
    _, s, b, log_rms = definitions(lam, now, slope)
    growth = (definitions(lam + h, after, 0.0)[3] - definitions(lam - h, before, 0.0)[3]) / (2 * h)
    assert s == pytest.approx(growth, abs=1e-5)  # h^2 of the differences
    assert b == pytest.approx((s * now - slope) * float(SHARES @ MEANS), abs=1e-5)
    found = measured.at(np.array([lam, lam + h, 0.0]))
    # 2,000 independent data and draws: a relative error of 1 / sqrt(2,000).
    assert found.linear[0] == pytest.approx(now, abs=0.02)
    assert found.log_rms[0] == pytest.approx(log_rms, abs=0.1)
    assert (found.log_rms[1] - found.log_rms[0]) / h == pytest.approx(s, abs=0.15)


def test_statistics_do_not_depend_on_the_batch() -> None:
    x0 = draws(100).reshape(-1, 2)
    whole, parts = (model_statistics(Exact(mixture), x0, points=9, batch_size=n) for n in (None, 7))
    assert whole.linear == pytest.approx(parts.linear, rel=1e-9)
    # f^2 is down to 1e-10 of what it is a difference of.
    assert whole.log_rms == pytest.approx(parts.log_rms, abs=1e-4)
    other = model_statistics(Exact(mixture), x0, points=9, seed=1)
    assert whole.linear != pytest.approx(other.linear, rel=1e-6)


def test_a_condition_goes_with_its_datum() -> None:
    """The data of a class is one number, its label: nothing is left of the network."""
    label = torch.tensor([-1.0, 2.0, 0.5]).double()

    class Labelled(Exact):
        def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
            assert cond is not None
            assert ((x[:, 0] - cond).abs() < 6 * level.sigma).all()  # noise, and the right label
            return cond[:, None].expand_as(x)

    found = model_statistics(Labelled(None), label[:, None], cond=label, points=5, batch_size=2)
    assert found.linear == pytest.approx([1.0] * 5, abs=1e-12)
    assert all(a == b for a, b in pairwise(found.log_rms))


def test_statistics_of_no_number_are_refused() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        model_statistics(Exact(lambda x, level: x * math.nan), normal(4, 1), points=3)
    with pytest.raises(ValueError, match="uniform-t, or clip"):
        model_statistics(Exact(mixture, RectifiedFlow()), normal(4, 1))


def test_beyond_their_nodes_statistics_stay_what_they_are() -> None:
    one = Statistics((-1.0, 0.0, 2.0), (0.9, 0.6, 0.2), (0.0, 1.0, 3.0))
    far = one.at(np.array([-3.0, -1.0, 2.0, 7.0]))
    assert far.linear == pytest.approx([0.9, 0.9, 0.2, 0.2])
    assert far.log_rms == pytest.approx([0, 0, 3, 3])
    assert np.diff(far.area)[[0, 2]] == pytest.approx([1.8, 1.0])


def test_statistics_are_saved_to_the_bit(measured: Statistics, tmp_path: Path) -> None:
    measured.save(tmp_path / "statistics.json")
    again = Statistics.load(tmp_path / "statistics.json")
    assert again == measured
    assert Plan.make(DPMSolverV3(again), VPSDE(), 5) == Plan.make(DPMSolverV3(measured), VPSDE(), 5)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "other"}', '{"format": "scoresde statistics 1", "lam": [0, 1]}']
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(ValueError, match="file holds no statistics"):
        Statistics.load(tmp_path / "file")
    with pytest.raises(ValueError, match="holds no statistics"):
        Statistics.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "columns",
    [
        ((0.0,), (1.0,), (0.0,)),
        ((0.0, 0.0), (1.0, 1.0), (0.0, 0.0)),
        ((0.0, math.inf), (1.0, 1.0), (0.0, 0.0)),
        ((0.0, 1.0), (1.0,), (0.0, 0.0)),
        ((0.0, 1.0), (1.0, 1.0), (0.0, math.nan)),
    ],
)
def test_statistics_that_cannot_be_are_refused(columns: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Statistics(*columns)


@pytest.mark.parametrize(
    ("option", "value"),
    [("predictor", 0), ("predictor", 4), ("corrector", 1), ("corrector", 5), ("pseudo", "")],
)
def test_what_cannot_be_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of .* got {value!r}"):
        DPMSolverV3(DATA, **{option: value})
    with pytest.raises(ValueError, match="statistics must be Statistics"):
        DPMSolverV3("path.json")  # type: ignore[arg-type]
