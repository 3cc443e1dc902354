"""Every solver on every process, and the arguments of a run."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde
from scoresde import (
    EDM,
    SOLVERS,
    VESDE,
    VPSDE,
    Counted,
    Denoiser,
    DiscreteVPSDE,
    Karras,
    Level,
    Noise,
    Plan,
    RectifiedFlow,
    UniformLambda,
    UniformTime,
    ddim_sampler,
    dpm_sampler,
    em_sampler,
    integrate,
    ode_sampler,
    pc_sampler,
    predict,
    prepare,
    sample,
)
from scoresde.processes import CLEAN
from scoresde.solvers import DDIM, DPMSolver, EulerMaruyama, PredictorCorrector
from scoresde.solvers.integrators.ode import ODE, fixed_calls
from scoresde.solvers.integrators.reverse_sde import TORCHSDE
from tests.problems import (
    ALONE,
    BLACK_BOXES,
    COUNTED,
    MEAN,
    SDES,
    STD,
    TABLES,
    TOLERANT,
    Net,
    calls,
    gaussian,
    normal,
)


def test_the_public_names_are_sorted_and_there() -> None:
    names = scoresde.__all__
    # As ruff sorts them: constants, classes, functions.
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(scoresde, name) for name in names)
    assert len(set(names)) == len(names)


# The loop over everything.
STEPS = (*range(1, 13), 20, 25, 50)
MANY = 1000


class Watched:
    """The exact denoiser of Gaussian data, that counts its calls and asks for no level twice in vain."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, level: Level[float]) -> Tensor:
        self.calls += 1
        return gaussian(x, level)


def nearest_budget(name: str, steps: int, to_clean: bool) -> int:
    """That number of calls, or the fewest that a black box can do with."""
    solver = BLACK_BOXES[name]
    least = fixed_calls(solver.method, 1) if isinstance(solver, ODE) else TORCHSDE[solver.method]
    return max(steps, least + to_clean)


@pytest.mark.parametrize("sde_name", SDES)
def test_every_solver_runs_on_every_sde_at_every_number_of_steps(
    sde_name: str, record_property: Callable[..., None]
) -> None:
    """Finite in both precisions with both endings; calls are as reported and within the budget."""
    noise, sde = normal(64, 2), SDES[sde_name]
    combinations, failures = 0, []
    for name in (*TABLES, *COUNTED):
        for steps in (*STEPS, MANY) if sde_name == "vp" else STEPS:
            # A thousand steps once for every solver.
            for to_clean in (False, True) if steps != MANY else (False,):
                if name in TABLES:
                    if steps < 1 + to_clean:
                        continue
                    run: Any = Plan.make(TABLES[name], sde, steps, to_clean=to_clean)
                    budget = run.nfe
                else:
                    budget = nearest_budget(name, steps, to_clean)
                    run = prepare(name, sde, budget, to_clean=to_clean)
                for dtype in (torch.float32, torch.float64) if steps != MANY else (torch.float32,):
                    denoise = Watched()
                    z = noise.to(dtype)
                    draw = lambda i, z=z: z[i % 60 : i % 60 + 3]  # noqa: E731
                    x = run.start.sigma * z[60:63]
                    with torch.no_grad():
                        if isinstance(run, Plan):
                            end = integrate(run, denoise, x, draw)
                        else:
                            end = run.integrate(denoise, x, draw)
                    combinations += 1
                    sane = torch.isfinite(end).all() and end.dtype == dtype
                    if not sane or denoise.calls != run.nfe or run.nfe > budget:
                        failures.append((name, steps, to_clean, dtype, denoise.calls, run.nfe))
    record_property("combinations", combinations)
    print(f"{combinations} combinations")
    assert not failures
    # 15 numbers of steps, less one to clean, in two precisions and one of a thousand steps.
    many = sde_name == "vp"
    assert combinations == len(TABLES) * (15 * 2 + 14 * 2 + many) + len(COUNTED) * (15 * 4 + many)


class Exact:
    """The denoiser of Gaussian data, at one level for all samples or at a level for each."""

    def __init__(self, sde: str) -> None:
        self.sde = SDES[sde]

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        each = (n.to(x)[:, None] if isinstance(n, Tensor) else n for n in level)
        estimate: Tensor = gaussian(x, Level(*each))
        return estimate


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sde", SDES)
def test_adaptive_solvers_run_on_every_sde(sde: str, dtype: torch.dtype, to_clean: bool) -> None:
    for name in (*TOLERANT, "parallel"):
        nfe = None if name in TOLERANT else 20
        x = sample(Exact(sde), name, (3, 1), nfe=nfe, dtype=dtype, to_clean=to_clean)
        assert x.isfinite().all(), name
        assert x.dtype == dtype


@pytest.mark.parametrize("sde", ["vp", "edm", "rectified-flow"])
def test_many_calls_find_the_data(sde: str) -> None:
    """Every solver, with 100 calls or at its tolerance, on Gaussian data whose exact score it is given."""
    for name in SOLVERS:
        # Of one number a sample, an estimate of the error is now and then near 0 by chance; ask for more.
        spec = f"{name}:rtol=0.001,atol=0.0001" if name.startswith("dpm-adaptive") else name
        # SEEDS in flow time needs more calls: its first steps are too long in lambda.
        spacing = UniformLambda() if name.startswith("seeds") else None
        nfe = None if name in TOLERANT else 100
        x = sample(Exact(sde), spec, (4000, 1), nfe=nfe, spacing=spacing)
        # Statistical errors of 4,000 samples are 0.008 and 0.006 at deviation 0.5; the start is N(0, sigma^2)
        # for N(alpha m, .); and the solvers of order 1 are off by up to 0.02.
        assert x.mean().item() == pytest.approx(MEAN, abs=0.05), name
        assert x.std().item() == pytest.approx(STD, abs=0.05), name


# Graphs and host reads.


@pytest.mark.parametrize(
    ("functional", "solver", "spacing"),
    [
        (
            lambda net, sde, shape, **o: em_sampler(net, sde, shape, eta=0.5, **o),
            EulerMaruyama(0.5),
            UniformTime(),
        ),
        (
            lambda net, sde, shape, **o: pc_sampler(net, sde, shape, snr=0.1, corrections=2, **o),
            PredictorCorrector(snr=0.1, corrections=2),
            UniformTime(),
        ),
        (
            lambda net, sde, shape, **o: pc_sampler(net, sde, shape, measured=True, **o),
            PredictorCorrector(measured=True),
            UniformTime(),
        ),
        (lambda net, sde, shape, **o: ddim_sampler(net, sde, shape, eta=0.5, **o), DDIM(0.5), None),
        (lambda net, sde, shape, **o: dpm_sampler(net, sde, shape, order=3, **o), DPMSolver(3), None),
        (
            lambda net, sde, shape, **o: ode_sampler(net, sde, shape, method="rk4", **o),
            ODE("rk4"),
            None,
        ),
        (
            lambda net, sde, shape, **o: ode_sampler(net, sde, shape, rtol=1e-2, atol=1e-3, **o),
            ODE("dopri5", 1e-2, 1e-3),
            None,
        ),
    ],
    ids=["em", "pc", "pc measured", "ddim", "dpm", "ode rk4", "ode dopri5"],
)
def test_the_familiar_names_are_the_general_function(
    functional: Callable[..., Tensor], solver: Any, spacing: Any
) -> None:
    net, sde = Net(), VPSDE()
    options: dict[str, Any] = {"nfe": 200, "seed": 3, "ids": torch.tensor([5, 1, 9])}
    by_name = functional(net, sde, (3, 2), prediction=predict.score, **options)
    by_object = sample(Denoiser(net, sde, predict.score), solver, (3, 2), spacing=spacing, **options)
    assert torch.equal(by_name, by_object)
    karras_by_name = functional(net, sde, (3, 2), prediction=predict.score, spacing=Karras(), **options)
    karras_by_object = sample(Denoiser(net, sde, predict.score), solver, (3, 2), spacing=Karras(), **options)
    assert torch.equal(karras_by_name, karras_by_object)


@pytest.mark.parametrize(
    ("functional", "nfe"), [(em_sampler, 1000), (pc_sampler, 1000), (ddim_sampler, 50), (dpm_sampler, 20)]
)
def test_the_familiar_names_have_their_usual_budgets(functional: Callable[..., Tensor], nfe: int) -> None:
    assert inspect.signature(functional).parameters["nfe"].default == nfe


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_by_name_by_itself_and_as_a_plan_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    x = sample(denoiser, name, (4, 2), nfe=calls(name, 12), seed=5, to_clean=True)
    assert torch.equal(sample(denoiser, SOLVERS[name], (4, 2), nfe=calls(name, 12), seed=5, to_clean=True), x)
    run = prepare(name, VPSDE(), calls(name, 12), to_clean=True)
    if isinstance(run, Plan):
        assert torch.equal(sample(denoiser, run, (4, 2), seed=5), x)
        run.save(tmp_path / "plan.json")
        loaded = Plan.load(tmp_path / "plan.json")
        assert loaded == run
        assert torch.equal(sample(denoiser, loaded, (4, 2), seed=5), x)
    else:
        assert run.end == CLEAN


@pytest.mark.parametrize("name", SOLVERS)
def test_inference_leaves_no_graph(name: str) -> None:
    net = Net()
    x = torch.ones(3, 2, requires_grad=True)
    end = sample(Denoiser(net, VPSDE(), predict.noise), name, (3, 2), nfe=calls(name, 6), x=x)
    assert not end.requires_grad
    assert net.weight.grad is None
    assert net.calls > 0
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", ALONE)
def test_the_condition_is_handed_on_in_its_batch(name: str) -> None:
    net = Net()
    denoiser = Denoiser(net, VPSDE(), predict.data)
    cond = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    whole = sample(denoiser, name, (5, 2), nfe=calls(name, 6), cond=cond)
    assert torch.equal(sample(denoiser, name, (5, 2), nfe=calls(name, 6), cond=cond, batch_size=2), whole)
    one = sample(denoiser, name, (1, 2), nfe=calls(name, 6), cond=cond[3:4], ids=torch.tensor([3]))
    assert torch.equal(one[0], whole[3])
    assert not torch.equal(sample(denoiser, name, (5, 2), nfe=calls(name, 6)), whole)


def test_the_network_receives_its_label_in_the_type_of_the_state() -> None:
    received: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        received.append(t)
        assert x.dtype == t.dtype
        return x

    sde = DiscreteVPSDE()
    plan = prepare("ddim", sde, 4, UniformTime())
    assert isinstance(plan, Plan)
    for dtype in (torch.float32, torch.float64):
        received.clear()
        sample(Denoiser(net, sde, predict.noise), plan, (3, 2), dtype=dtype)
        expected = torch.tensor([[level.t * 1000 - 1] * 3 for level in plan.levels], dtype=torch.float64)
        assert torch.equal(torch.stack(received), expected.to(dtype))
    assert torch.stack(received)[0].tolist() == [999.0] * 3


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_state_has_the_type_that_was_asked_for(name: str, dtype: torch.dtype) -> None:
    types = set()

    def net(x: Tensor, t: Tensor) -> Tensor:
        types.add(x.dtype)
        return 0.3 * x

    x = sample(Denoiser(net, VPSDE(), predict.noise), name, (3, 2), nfe=calls(name, 6), dtype=dtype)
    assert x.dtype == dtype
    assert types == {dtype}


@pytest.mark.parametrize("name", [*TABLES, *COUNTED])
def test_float64_has_the_noise_of_float32_and_better_sums(name: str) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.v)
    single = sample(denoiser, name, (50, 2), nfe=calls(name, 12))
    double = sample(denoiser, name, (50, 2), nfe=calls(name, 12), dtype=torch.float64)
    # Twelve calls of float32: 1e-7 of numbers up to 50, and Euler's few large weights at t near 0.
    torch.testing.assert_close(single.double(), double, rtol=2e-4, atol=2e-4)
    assert not torch.equal(single.double(), double)


@pytest.mark.parametrize("name", ALONE)
def test_a_run_starts_from_a_given_state(name: str) -> None:
    sde = EDM()
    denoiser = Denoiser(Net(), sde, predict.edm())
    start = 80 * Noise(3, torch.arange(6), (2,))(0)
    given = sample(denoiser, name, (6, 2), nfe=calls(name, 6), x=start, seed=3)
    assert torch.equal(
        given, sample(denoiser, name, (6, 2), nfe=calls(name, 6), seed=3)
    )  # what it would have drawn itself
    assert torch.equal(
        given, sample(denoiser, name, (6, 2), nfe=calls(name, 6), x=start, seed=3, batch_size=4)
    )
    assert not torch.equal(given, sample(denoiser, name, (6, 2), nfe=calls(name, 6), x=2 * start, seed=3))


@pytest.mark.parametrize("name", TABLES)
def test_the_start_is_normal_of_the_deviation_at_the_first_level(name: str) -> None:
    seen: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return x

    for sde in (EDM(), VESDE(), VPSDE(), RectifiedFlow(t_max=0.9)):
        seen.clear()
        plan = Plan.make(TABLES[name], sde, 2)
        sample(Denoiser(net, sde, predict.data), plan, (5, 2), seed=2)
        assert torch.equal(seen[0], plan.start.sigma * Noise(2, torch.arange(5), (2,))(0))


def test_the_noise_of_a_run_is_another_than_that_of_its_start() -> None:
    """Draw 0 is the start; a run's own draws follow it."""
    plan = Plan.make(TABLES["ancestral"], VPSDE(), 2)
    net = lambda x, t: 0 * x  # noqa: E731
    x = sample(Denoiser(net, VPSDE(), predict.data), plan, (5, 2), seed=4, dtype=torch.float64)
    z = [Noise(4, torch.arange(5), (2,))(i).double() for i in range(3)]
    by_hand = integrate(plan, lambda x, level: 0 * x, plan.start.sigma * z[0], lambda i: z[i + 1])
    assert torch.equal(x, by_hand)


def test_counted_counts() -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    assert denoiser.sde == VPSDE()
    sample(denoiser, "heun", (5, 2), nfe=11)
    assert denoiser.calls == 10
    sample(denoiser, "heun", (5, 2), nfe=11, batch_size=2)
    assert denoiser.calls == 40


def test_samples_may_be_single_numbers_or_of_any_rank() -> None:
    for name in (*SOLVERS, "pc:measured=true"):
        for shape in ((3,), (3, 1), (3, 2, 2, 2, 2)):
            denoiser = Denoiser(Net(), VPSDE(), predict.noise)
            assert sample(denoiser, name, shape, nfe=calls(name, 6)).shape == shape
