"""Parallel in time: a plan's own result, in fewer rounds, of any solver that is a table."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDM, VPSDE, Counted, Denoiser, Level, Plan, integrate, predict, prepare, sample
from scoresde.plans.tape import Solver
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM, DPMSolver, DPMSolverPP, EulerMaruyama, Heun, PredictorCorrector
from scoresde.solvers.integrators.base import Integration
from scoresde.solvers.integrators.parallel import Parallel
from scoresde.spacings import AtTimes
from tests.problems import SDES, Net, mixture, normal

# One-step and multistep, one call a step and three, without noise and with, and the step sized by norms.
SOLVERS: list[Solver] = [
    DDIM(),
    DDIM(1.0),
    EulerMaruyama(),
    Heun(),
    DPMSolver(3),
    DPMSolverPP(2),
    DPMSolverPP(3, 1.0),
    PredictorCorrector(),
    PredictorCorrector(measured=True),
]
DIMS = 4


class Network:
    """The mixture's denoiser, each row at its own level, that counts its rounds and its estimates."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        self.sizes.append(len(x))
        if isinstance(level.t, Tensor):
            assert level.t.shape == (len(x),)
            assert level.t.dtype == torch.float64
            level = Level(*(n[:, None, None] for n in level))
        return mixture(x, level)


def both(parallel: Parallel, plan: Plan, samples: int = 5) -> tuple[Tensor, Tensor, Network]:
    """The end of a plan in parallel and call by call, on the same noise."""
    x = plan.start.sigma * normal(samples, DIMS)
    noise = lambda i: normal(samples, DIMS, seed=100 + i)  # noqa: E731
    network = Network()
    return parallel.carry_out(plan, network, x, noise), integrate(plan, Network(), x, noise), network


@pytest.mark.parametrize("window", [1, 5, 100])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_without_tolerance_it_is_the_plan_itself_within_as_many_rounds(solver: Solver, window: int) -> None:
    for to_clean in (False, True):
        plan = Plan.make(solver, VPSDE(), 12, to_clean=to_clean)
        end, sequential, network = both(Parallel(solver, window, 0.0), plan)
        # The same sums; torch rounds a product with a float and one with a tensor alike, but need not.
        torch.testing.assert_close(end, sequential, rtol=1e-12, atol=1e-12)
        assert len(network.sizes) <= plan.nfe
        assert max(network.sizes) <= 5 * window
        if window == 1:
            assert network.sizes == [5] * plan.nfe


@pytest.mark.parametrize("sde", ["vp", "edm", "rectified-flow"])
@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DPMSolverPP(2)], ids=str)
def test_the_tolerance_decides_the_error_and_the_rounds(solver: Solver, sde: str) -> None:
    plan = Plan.make(solver, SDES[sde], 100)
    rounds = []
    for tolerance in (1e-1, 1e-3):
        end, sequential, network = both(Parallel(solver, 50, tolerance), plan)
        # Of the shares of sigma at which outputs are final, a few add up: 0.3 to 2.2 of one measured.
        assert (end - sequential).abs().max() < 5 * tolerance
        rounds.append(len(network.sizes))
    assert rounds[0] < rounds[1] < 40  # of 100 calls one after the other


def test_a_wider_window_takes_fewer_rounds() -> None:
    plan = Plan.make(DDIM(), VPSDE(), 60)
    rounds = [len(both(Parallel(DDIM(), window), plan)[2].sizes) for window in (1, 2, 4, 16)]
    assert rounds[0] == 60
    assert rounds == sorted(set(rounds), reverse=True)


def test_an_output_is_asked_for_again_only_if_its_point_moved() -> None:
    """Where the network says the same everywhere, the first guess of all the others is right."""
    plan = Plan.make(DDIM(), EDM(), 40)
    asked: list[int] = []

    def constant(x: Tensor, level: Level[Any], rows: Tensor) -> Tensor:
        asked.append(len(x))
        return torch.ones_like(x)

    x = 80 * normal(3, DIMS)
    end = Parallel(DDIM(), 13, 1e-12).carry_out(plan, constant, x, lambda i: x)
    torch.testing.assert_close(end, 1 + plan.end.sigma * (x - 1) / 80, rtol=1e-12, atol=1e-12)
    assert asked == [3, 39, 39, 39]  # one to guess by, then three windows of the other 39


def test_every_row_has_its_own_sample_and_level() -> None:
    plan = Plan.make(DDIM(), VPSDE(), 9)
    seen: list[tuple[Tensor, Tensor]] = []

    def denoise(x: Tensor, level: Level[Any], rows: Tensor) -> Tensor:
        seen.append((rows, level.t))
        return (rows[:, None] + level.alpha[:, None] * x) / 5  # knows its sample and level

    x = normal(2, DIMS)
    end = Parallel(DDIM(), 4, 0.0).carry_out(plan, denoise, x, lambda i: x)
    tag = torch.arange(2.0, dtype=torch.float64)[:, None]
    by_hand = integrate(plan, lambda x, level: (tag + level.alpha * x) / 5, x)
    torch.testing.assert_close(end, by_hand, rtol=1e-12, atol=1e-12)
    times = {level.t for level in plan.levels}
    for rows, t in seen:
        assert rows.tolist() == [0, 1] * (len(rows) // 2)
        assert torch.equal(t[::2], t[1::2])
        assert set(t.tolist()) <= times


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), DPMSolverPP(2)], ids=str)
def test_sample_gives_what_the_solver_gives(solver: Solver) -> None:
    """Condition, noise and ids included; the calls are rounds, the evaluations all that the network did."""
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.data))
    cond = torch.tensor([0.0, 1.0, -1.0, 2.0, 3.0])
    options: dict[str, Any] = {"nfe": 20, "cond": cond, "to_clean": True, "dtype": torch.float64, "seed": 3}
    sequential = sample(denoiser, solver, (5, 2), **options)
    denoiser.calls = denoiser.evaluations = 0
    parallel = sample(denoiser, Parallel(solver, 8, 0.0), (5, 2), **options)
    torch.testing.assert_close(parallel, sequential, rtol=1e-10, atol=1e-10)
    assert denoiser.calls <= 20
    assert 5 * 20 <= denoiser.evaluations <= 8 * 5 * denoiser.calls
    by_two = sample(denoiser, Parallel(solver, 8, 0.0), (5, 2), batch_size=2, **options)
    torch.testing.assert_close(by_two, sequential, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_of_any_type_and_rank(dtype: torch.dtype) -> None:
    for shape in ((3,), (3, 1), (2, 1, 2, 2)):
        x = sample(Denoiser(Net(), EDM(), predict.edm()), Parallel(), shape, nfe=20, dtype=dtype)
        assert (x.shape, x.dtype) == (shape, dtype)
        assert torch.isfinite(x).all()


def test_guesses_that_overflow_are_mended() -> None:
    """What is nonsense ahead of the window's front does no harm: it is asked for again."""
    plan = Plan.make(DDIM(), VPSDE(), 20)

    def fragile(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        one = level.t[:, None] if isinstance(level.t, Tensor) else level.t
        return torch.where((x.abs() > 3) & torch.as_tensor(one < 0.9), torch.inf, -0.5 * x)

    x = normal(2, DIMS)
    sequential = integrate(plan, fragile, x)
    assert torch.isfinite(sequential).all()
    end = Parallel(DDIM(), 20, 0.0).carry_out(plan, fragile, x, lambda i: x)
    torch.testing.assert_close(end, sequential, rtol=1e-12, atol=1e-12)


def test_a_network_that_is_not_finite_is_named() -> None:
    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None] < 0.5, torch.nan, 0.1 * x)

    with pytest.raises(FloatingPointError, match=r"network's output is not finite in call 2, at t = 0\.4"):
        sample(Denoiser(net, VPSDE(), predict.data), Parallel(), (4, 2), nfe=20)


def test_the_budget_is_that_of_the_plan() -> None:
    run = prepare(Parallel(Heun()), VPSDE(), 11, to_clean=True)
    plan = prepare(Heun(), VPSDE(), 11, to_clean=True)
    assert isinstance(run, Integration)
    assert (run.start, run.end, run.nfe) == (plan.start, CLEAN, None)
    with pytest.raises(ValueError, match="nfe must be a number for parallel, got None"):
        prepare(Parallel(), VPSDE(), None)
    with pytest.raises(ValueError, match="nfe must be at least 2 for Heun"):
        prepare(Parallel(Heun()), VPSDE(), 1)
    with pytest.raises(ValueError, match="solver must be a solver that is a table, got 'ddim'"):
        Parallel("ddim")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window must be an integer of at least 1, got 0"):
        Parallel(window=0)
    with pytest.raises(ValueError, match=r"tolerance must not be negative, got -1\.0"):
        Parallel(tolerance=-1.0)


def steps(*values: float, bend: float = 0.0) -> tuple[Plan, Any, list[list[float]]]:
    """DDIM over sigma = 8, 4, 2, 1, ...; a network of one output per level; and the levels of every call.

    Sample 1 alone has the outputs ``values``, the others have 0. With ``bend`` its third output changes with
    the point.
    """
    sigmas = [8.0 / 2**i for i in range(len(values) + 1)]
    sde = EDM(sigmas[-1], sigmas[0])
    plan, seen = Plan.make(DDIM(), sde, len(values), AtTimes(sigmas)), list[list[float]]()

    def denoise(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        sigma = torch.as_tensor(level.sigma, dtype=torch.float64).expand(len(x)).round(decimals=9)
        seen.append(sigma[::3].tolist())
        of = torch.tensor([values[sigmas.index(s)] for s in sigma.tolist()], dtype=torch.float64)
        bent = bend * x * (sigma == sigmas[2])[:, None]
        one = torch.arange(len(x)) % 3 == 1
        return (of[:, None] + bent) * one[:, None]

    return plan, denoise, seen


def test_an_output_is_final_if_its_point_moved_by_the_tolerance_in_sigma() -> None:
    """The second output, d, moves the point of sample 1 at sigma = 2 by d / 2, which is d / 4 of sigma."""
    d = 0.8
    for tolerance, rounds in ((d / 4 + 1e-9, 2), (d / 4 - 1e-9, 3)):
        plan, denoise, seen = steps(0.0, d, 0.0)
        Parallel(DDIM(), 8, tolerance).carry_out(
            plan, denoise, torch.zeros(3, 2, dtype=torch.float64), normal
        )
        assert seen == [[8.0], [4.0, 2.0], [2.0]][:rounds]


def test_an_output_behind_one_that_moved_is_not_final() -> None:
    """The point at sigma = 1 stays where it was, for d_2 = -d_1 / 2 as first asked; then d_2 changes."""
    plan, denoise, seen = steps(0.0, 1.0, -0.5, 0.0, bend=0.3)
    x = torch.zeros(3, 2, dtype=torch.float64)
    sequential = integrate(plan, denoise, x)
    seen.clear()
    end = Parallel(DDIM(), 8, 1e-6).carry_out(plan, denoise, x, normal)
    assert torch.equal(end[[0, 2]], sequential[[0, 2]])
    torch.testing.assert_close(end, sequential, rtol=0, atol=1e-12)
    assert seen == [[8.0], [4.0, 2.0, 1.0], [2.0, 1.0], [1.0]]
