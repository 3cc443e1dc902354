"""Networks that write to their input, or return a part of it: run and caller's tensors are as ever."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from scoresde import (
    SOLVERS,
    VPSDE,
    Counted,
    Denoiser,
    Level,
    Plan,
    integrate,
    iterate,
    model_statistics,
    predict,
    prepare,
    sample,
)
from scoresde.denoisers.apart import apart
from scoresde.plans.compiled import integrate_compiled
from scoresde.solvers.integrators.base import Integration
from tests.problems import TABLES, TOLERANT, calls, normal


class Bare:
    """A denoiser that is nothing but a function of x."""

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        self.of, self.sde = of, VPSDE()

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        return self.of(x)


# Each with what it should be as good as.
TOUCHING: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "writes": (lambda x: x.mul_(0.3).clone(), lambda x: x * 0.3),
    "writes and returns": (lambda x: x.mul_(0.3), lambda x: x * 0.3),
    "writes and returns a view": (lambda x: x.mul_(0.3).view(x.shape), lambda x: x * 0.3),
    "returns it": (lambda x: x, torch.clone),
    "returns a view": (lambda x: x[:], torch.clone),
    "returns it detached": (lambda x: x.detach(), torch.clone),
}


@pytest.mark.parametrize("name", [*SOLVERS, "pc:measured=true"])
def test_no_solver_is_spoiled_nor_the_callers_start(name: str) -> None:
    start, budget = normal(3, 2).float(), calls(name, 8)
    tolerance = ":rtol=0.5,atol=0.5" * (name in ("adaptive-em", "dpm-adaptive-12", "dpm-adaptive-23"))
    for to_clean in (True,) if name in TOLERANT else (False, True):
        for what, (touching, harmless) in TOUCHING.items():
            runs, x = [], start.clone()
            for of in (harmless, touching):
                counted = Counted(Bare(of))
                end = sample(counted, name + tolerance, (3, 2), nfe=budget, x=x, to_clean=to_clean)
                runs.append((end, counted.calls))
                assert torch.equal(x, start), what
            assert torch.equal(runs[0][0], runs[1][0]), what
            assert runs[0][1] == runs[1][1], what


def test_a_run_of_a_user_may_write_to_its_start() -> None:
    start = prepare("ddim", VPSDE(), 1).start
    run, x = Integration(start, start, 0, lambda denoise, x, noise: x.mul_(2)), normal(3).float()
    assert torch.equal(sample(Bare(torch.clone), run, (3,), x=x), 2 * normal(3).float())
    assert torch.equal(x, normal(3).float())


class InPlace(nn.Module):
    """x SiLU(x), its activation in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.activation = nn.SiLU(inplace=in_place)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * self.activation(x)


@pytest.mark.parametrize("prediction", [predict.noise, predict.data, predict.v, predict.edm()])
@pytest.mark.parametrize(
    "name", ["ddim", "heun", "dpmpp-2m", "ancestral", "ode", "scipy", "torchsde", "parallel"]
)
def test_a_denoiser_reads_its_own_point_and_not_what_the_network_left_there(
    name: str, prediction: predict.Prediction
) -> None:
    ends = [
        sample(Denoiser(InPlace(in_place), VPSDE(), prediction), name, (3, 2), nfe=calls(name, 8))
        for in_place in (False, True)
    ]
    assert torch.equal(*ends)


def test_one_ddim_step_of_a_network_in_place_is_the_formula() -> None:
    plan = prepare("ddim", VPSDE(), 1)
    assert isinstance(plan, Plan)
    x = normal(3)
    denoiser = Denoiser(lambda x, t: x.mul_(0.5), VPSDE(), predict.noise)
    t, s = plan.start, plan.end
    # The network's noise is x / 2; the weights, 1 / alpha = 150 at the start, lose a few digits of 1e-16.
    expected = s.alpha / t.alpha * x + (s.sigma - s.alpha / t.alpha * t.sigma) * x / 2
    with torch.no_grad():
        torch.testing.assert_close(integrate(plan, denoiser, x), expected, rtol=1e-12, atol=1e-11)
    for level in (t, s):  # called by itself it is right, too, from its first call on
        torch.testing.assert_close(denoiser(x, level), x / level.alpha * (1 - level.sigma / 2))
    assert torch.equal(x, normal(3))


@pytest.mark.parametrize("name", ["dpmpp-2m", "unipc", "ancestral"])
def test_states_that_a_caller_keeps_stay_as_they_were(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    noise = [normal(4, seed=i) for i in range(20)]
    kept = [
        list(iterate(plan, lambda x, level, of=of: of(x), normal(4, seed=77), noise.__getitem__))
        for of in (lambda x: 0.3 * x, lambda x: x.mul_(0.3))
    ]
    assert all(map(torch.equal, *kept))
    assert all(torch.equal(z, normal(4, seed=i)) for i, z in enumerate(noise))


def test_gradients_pass_a_network_in_place() -> None:
    plan = Plan.make(TABLES["dpmpp-2m"], VPSDE(), 5)
    gradients = []
    for of in (lambda x: 0.3 * x, lambda x: x.mul_(0.3)):
        x = normal(4).requires_grad_()
        integrate(plan, lambda x, level, of=of: of(x), x).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("touching", TOUCHING)
def test_within_inference_mode_where_no_tensor_counts_its_versions(touching: str) -> None:
    of, harmless = TOUCHING[touching]
    expected = sample(Bare(harmless), "dpmpp-2m", (3, 2), nfe=6)
    with torch.inference_mode():
        assert torch.equal(sample(Bare(of), "dpmpp-2m", (3, 2), nfe=6), expected)
        denoiser = Denoiser(lambda x, t: of(x), VPSDE(), predict.noise)
        found = sample(denoiser, "dpmpp-2m", (3, 2), nfe=6)
    clean = Denoiser(lambda x, t: harmless(x), VPSDE(), predict.noise)
    assert torch.equal(found, sample(clean, "dpmpp-2m", (3, 2), nfe=6))


class Copies(TorchDispatchMode):
    """Counts the copies that are made."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name.split("::")[1] in ("clone", "copy_")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("steps", [4, 40])
def test_a_harmless_network_costs_one_copy_a_run(steps: int) -> None:
    plan = Plan.make(TABLES["dpmpp-2m"], VPSDE(), steps)
    denoiser = Denoiser(lambda x, t: 0.5 * x, VPSDE(), predict.noise)
    counts = []
    for _ in range(2):
        with torch.no_grad(), Copies() as copies:
            integrate(plan, denoiser, normal(4))
        counts.append(copies.count)
    assert counts == [2, 1]  # the denoiser's own once in its life


class Touch(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.mul_(0.5)


@pytest.mark.parametrize(
    "of", [Denoiser(Touch(), VPSDE(), predict.noise), Bare(lambda x: x.mul_(0.5)), Bare(lambda x: x[:])]
)
def test_compiled_runs_are_as_good(of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library, and by a user who compiles the whole run; torch's compiler here only traces."""
    plan = Plan.make(TABLES["dpmpp-2m"], VPSDE(), 4)
    x = normal(3).float()
    expected = x.clone()
    clean = Denoiser(lambda x, t: 0.5 * x, VPSDE(), predict.noise)
    if isinstance(of, Bare):
        clean = Bare(lambda x: of.of(x.clone()).clone())  # type: ignore[assignment]
    expected = integrate(plan, clean, x)
    traced = torch.compile(lambda x: integrate(plan, of, x), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(traced(x), expected)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    found = sample(of, plan, (3,), x=x, compile=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(integrate_compiled(plan, of, x), expected)
    assert torch.equal(x, normal(3).float())


def test_where_memory_cannot_be_seen_copies_are_made() -> None:
    """Under vmap no tensor has storage."""
    plan = Plan.make(TABLES["dpmpp-2m"], VPSDE(), 4)
    x = normal(5, 3)
    found = torch.vmap(lambda x: integrate(plan, lambda x, level: x.mul(0.3), x))(x)
    torch.testing.assert_close(found, integrate(plan, lambda x, level: 0.3 * x, x))


def test_runs_without_a_plan_are_kept_apart_too() -> None:
    seen = []

    def writes(x: Tensor, level: Level[float]) -> Tensor:
        seen.append(x)
        return x.mul_(0.3)

    ask, x = apart(writes), normal(4)
    level = prepare("ddim", VPSDE(), 1).start
    for _ in range(3):
        assert torch.equal(ask(x, level), 0.3 * normal(4))
        assert torch.equal(x, normal(4))
    harmless = apart(lambda x, level: seen.append(x) or 0.3 * x)
    for _ in range(3):
        harmless(x, level)
    assert [point is x for point in seen] == [False] * 4 + [True] * 2


def test_statistics_are_those_of_the_network() -> None:
    x0 = normal(20, 2)
    found = [model_statistics(Bare(of), x0, points=4) for of in (lambda x: 0.3 * x, lambda x: x.mul_(0.3))]
    assert found[0] == found[1]


@pytest.mark.parametrize("prediction", [predict.noise, predict.data, predict.v])
@pytest.mark.parametrize("first", [torch.float32, torch.float64])
def test_a_state_of_any_type_stays_as_it_is_whatever_was_called_before(
    first: torch.dtype, prediction: predict.Prediction
) -> None:
    """A float32 network receives a copy of a float64 state, so a first call on it shows no writes."""
    ends = []
    for in_place in (False, True):
        net = InPlace(in_place)
        net.weight = nn.Parameter(torch.ones(1))  # so that the network has a type
        denoiser = Denoiser(net, VPSDE(), prediction).requires_grad_(False)
        calls_of = [(denoiser, dtype) for dtype in (first, torch.float32, torch.float64)]
        calls_of += [(denoiser.at(dtype), dtype) for dtype in (torch.float64, torch.float32)]
        ends += [sample(of, "heun", (3, 2), nfe=8, dtype=dtype) for of, dtype in calls_of]
    for harmless, touching in zip(ends[:5], ends[5:], strict=True):
        assert torch.equal(harmless, touching)
