"""Drawing samples: what a run costs, what it leaves behind, and that each way of asking gives the same."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

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
    solver_of,
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
    spread,
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
    """Finite in both precisions with both endings; the calls made are those reported, and within budget."""
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
def test_what_stops_at_a_tolerance_runs_on_every_sde(sde: str, dtype: torch.dtype, to_clean: bool) -> None:
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
        x = sample(Exact(sde), spec, (4000, 1), nfe=None if name in TOLERANT else 100)
        # Statistical errors of 4,000 samples are 0.008 and 0.006 at deviation 0.5; the start is N(0, sigma^2)
        # for N(alpha m, .); and the solvers of order 1 are off by up to 0.02.
        assert x.mean().item() == pytest.approx(MEAN, abs=0.05), name
        assert x.std().item() == pytest.approx(STD, abs=0.05), name


# Graphs and host reads.
class HostReads(TorchDispatchMode):
    """Counts the operations that would make the host wait for a GPU."""

    names = ("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "_linalg_check_errors")

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func._schema.name.split("::")[1]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return sum(self.count[name] for name in self.names)


def test_the_counter_sees_a_host_read() -> None:
    x = torch.ones(1)
    for read in (x.item, lambda: bool(x > 0), lambda: float(x), x.nonzero, lambda: torch.equal(x, x)):
        with HostReads() as reads:
            read()  # type: ignore[operator]
        assert reads.total


@pytest.mark.parametrize("name", [*TABLES, "pc:measured=true"])
def test_a_run_never_reads_from_the_device(name: str) -> None:
    plan = Plan.make(solver_of(name), VPSDE(), 12)  # type: ignore[arg-type]
    noise = Noise(0, torch.arange(4), (2,))
    denoiser = Denoiser(Net(), VPSDE(), predict.v)
    with torch.no_grad(), HostReads() as reads:
        integrate(plan, denoiser, noise(0), lambda i: noise(i + 1))
    assert reads.total == 0
    assert reads.count["mul"] > 12  # it did look


@pytest.mark.parametrize("name", TABLES)
def test_one_read_checks_a_whole_run(name: str) -> None:
    """Is the end finite? That is all that ``sample`` asks the device, whatever the number of steps."""
    plans = [Plan.make(TABLES[name], VPSDE(), steps) for steps in (3, 10)]
    reads = []
    for plan in plans:
        with HostReads() as mode:
            sample(Denoiser(Net(), VPSDE(), predict.v), plan, (4, 2))
        reads.append(mode.total)
    assert reads[0] == reads[1] <= 2  # the number, and how torch asks for it


def graphs_of(run: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Compile with fullgraph: nothing may fall back to Python. Check the bits, and count the graphs."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(run, fullgraph=True, backend=backend)(x)
        assert torch.equal(compiled, run(x))  # the same operations one after the other
    return len(graphs)


@pytest.mark.parametrize("name", [*TABLES, "pc:measured=true"])
def test_a_run_is_one_graph(name: str) -> None:
    """Network and all."""
    plan = Plan.make(solver_of(name), VPSDE(), 5)  # type: ignore[arg-type]
    denoiser = Denoiser(Net(), VPSDE(), predict.v)
    z = normal(40, 4, 2).float()
    assert graphs_of(lambda x: integrate(plan, denoiser, x, lambda i: z[i]), z[-1]) == 1


def test_noise_is_made_in_the_graph_of_its_run() -> None:
    plan = Plan.make(TABLES["ancestral"], VPSDE(), 3)
    denoiser = Denoiser(Net(), VPSDE(), predict.v)

    def run(ids: Tensor) -> Tensor:
        noise = Noise(7, ids, (2,))
        return integrate(plan, denoiser, plan.start.sigma * noise(0), lambda i: noise(i + 1))

    assert graphs_of(run, torch.arange(4)) == 1


# The ways of asking.
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


def test_the_network_is_told_its_label_in_the_type_of_the_state() -> None:
    told: list[Tensor] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        told.append(t)
        assert x.dtype == t.dtype
        return x

    sde = DiscreteVPSDE()
    plan = prepare("ddim", sde, 4, UniformTime())
    assert isinstance(plan, Plan)
    for dtype in (torch.float32, torch.float64):
        told.clear()
        sample(Denoiser(net, sde, predict.noise), plan, (3, 2), dtype=dtype)
        expected = torch.tensor([[level.t * 1000 - 1] * 3 for level in plan.levels], dtype=torch.float64)
        assert torch.equal(torch.stack(told), expected.to(dtype))
    assert torch.stack(told)[0].tolist() == [999.0] * 3


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


class Breaks:
    """A network whose output is not finite from a time on, whatever the run."""

    def __init__(self, value: float, below: float) -> None:
        self.value, self.below = value, below
        self.times: list[float] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.times.append(t[0].item())
        return 0.1 * x if t[0].item() > self.below else torch.full_like(x, self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [*TABLES, *COUNTED])
def test_a_network_that_is_not_finite_stops_the_run_naming_call_and_t(name: str, value: float) -> None:
    sde = VPSDE()
    healthy, broken = Breaks(value, -1.0), Breaks(value, 0.5)
    sample(Denoiser(healthy, sde, predict.data), name, (2, 2), nfe=calls(name, 12))
    first = next(i for i, t in enumerate(healthy.times) if t <= 0.5)
    with pytest.raises(FloatingPointError, match="the network's output is not finite in call") as error:
        sample(Denoiser(broken, sde, predict.data), name, (2, 2), nfe=calls(name, 12))
    call, t = re.findall(r"in call (\d+), at t = ([\d.e-]+),", str(error.value))[0]
    assert int(call) == first + 1
    assert float(t) == pytest.approx(healthy.times[first], rel=1e-5)  # six digits are shown


@pytest.mark.parametrize(
    "method", ["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "rk4", "implicit_adams"]
)
@pytest.mark.filterwarnings("ignore:Functional iteration did not converge")  # how implicit_adams says it
def test_a_network_that_is_not_finite_stops_every_ode_method(method: str) -> None:
    net = Breaks(float("nan"), 0.5)
    with pytest.raises(FloatingPointError, match=r"not finite in call \d+, at t = 0\."):
        sample(Denoiser(net, VPSDE(), predict.data), ODE(method), (2, 2), nfe=500)


def test_a_state_that_overflows_is_told_from_a_network_that_does() -> None:
    net = lambda x, t: torch.full_like(x, 3e38)  # noqa: E731
    plan = Plan.make(EulerMaruyama(), VPSDE(), 3, UniformTime())
    assert plan.amplification > 1.5  # of an output that is nearly the largest number that there is
    with pytest.raises(
        FloatingPointError, match="the state overflowed, though every output of the network is"
    ):
        sample(Denoiser(net, VPSDE(), predict.data), plan, (2, 2))


def test_counted_counts() -> None:
    denoiser = Counted(Denoiser(Net(), VPSDE(), predict.noise))
    assert denoiser.sde == VPSDE()
    sample(denoiser, "heun", (5, 2), nfe=11)
    assert denoiser.calls == 10
    sample(denoiser, "heun", (5, 2), nfe=11, batch_size=2)
    assert denoiser.calls == 40


def test_progress_is_shown_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    sample(denoiser, "heun", (5, 2), nfe=10)
    assert capsys.readouterr() == ("", "")
    sample(denoiser, "heun", (5, 2), nfe=10, batch_size=2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "30/30" in shown.err


class Interrupted:
    """A network at which Ctrl-C is pressed."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return 0.1 * x


def test_an_interrupted_run_leaves_its_bar_closed(capsys: pytest.CaptureFixture[str]) -> None:
    denoiser = Denoiser(Interrupted(3), VPSDE(), predict.noise)
    with pytest.raises(KeyboardInterrupt):
        sample(denoiser, "ddim", (4, 2), nfe=8, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("\n")  # what is written next begins a line of its own
    assert re.search(r"[23]/8", shown.err.splitlines()[-1])
    assert not list(getattr(tqdm, "_instances", []))
    sample(Denoiser(Net(), VPSDE(), predict.noise), "ddim", (4, 2), nfe=8, progress=True)
    assert "8/8" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*TABLES])
def test_gradients_of_a_run_are_those_of_its_formula(name: str) -> None:
    """By integrate, in the start and in a parameter of the network; what it ends with is linear in both."""
    plan = Plan.make(TABLES[name], EDM(0.1, 10.0), 6)
    z = [normal(2, seed=i) for i in range(40)]
    start, mean = normal(2).requires_grad_(), torch.tensor(MEAN, dtype=torch.float64, requires_grad=True)

    def network(x: Any, level: Level[float], mean: Any = MEAN) -> Any:
        var = (level.alpha * STD) ** 2 + level.sigma**2
        return STD**2 * level.alpha / var * x + level.sigma**2 * mean / var

    end = integrate(plan, lambda x, level: network(x, level, mean), start, z.__getitem__)
    slope, by_mean = torch.autograd.grad(end.sum(), (start, mean))
    none = [0.0] * 40
    by_hand = [
        integrate(plan, lambda x, level, m=m: network(x, level, m), x, none.__getitem__)
        for x, m in ((1.0, 0.0), (0.0, 1.0))
    ]
    # Sums of numbers of up to 100.
    assert slope.tolist() == pytest.approx([by_hand[0]] * 2, abs=1e-11)
    assert by_mean.item() == pytest.approx(2 * by_hand[1], abs=1e-11)


def test_gradients_find_the_closed_form_of_gaussian_data() -> None:
    """x_end = alpha m + S_end / S_start (x - alpha m) on the exact path, S the deviation at a level."""
    denoiser = Denoiser(Affine(), VPSDE(), predict.data)
    plan = Plan.make(TABLES["dpmpp-3m"], VPSDE(), 320)
    x = normal(4).requires_grad_()
    integrate(plan, denoiser, x).sum().backward()
    ratio = spread(plan.end) / spread(plan.start)
    # The method's error at 320 steps.
    assert x.grad.tolist() == pytest.approx([ratio] * 4, rel=1e-4)  # type: ignore[union-attr]
    expected = 4 * (plan.end.alpha - ratio * plan.start.alpha)
    assert denoiser.net.mean.grad.item() == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]
    with torch.no_grad():
        assert not sample(denoiser, plan, (4,), x=x, dtype=torch.float64).requires_grad


class Affine(torch.nn.Module):
    """The denoiser of N(m, STD^2) under VPSDE, m a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(MEAN, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        level = VPSDE().level(t)
        var = (level.alpha * STD) ** 2 + level.sigma**2
        return STD**2 * level.alpha / var * x + level.sigma**2 * self.mean / var


def test_samples_may_be_single_numbers_or_of_any_rank() -> None:
    for name in (*SOLVERS, "pc:measured=true"):
        for shape in ((3,), (3, 1), (3, 2, 2, 2, 2)):
            denoiser = Denoiser(Net(), VPSDE(), predict.noise)
            assert sample(denoiser, name, shape, nfe=calls(name, 6)).shape == shape
