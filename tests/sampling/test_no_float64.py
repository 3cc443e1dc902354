"""A device without float64, as Apple's: all that runs on one runs there, with the results of the host."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scoresde.plans.compiled
from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Denoiser,
    DiscreteVPSDE,
    ExactDenoiser,
    Level,
    Mixture,
    Noise,
    Plan,
    Transported,
    model_statistics,
    predict,
    prepare,
    sample,
    tune,
)
from scoresde.conditioning import Given, Guided, Interval, Projected, Rescaled, Thresholded
from scoresde.denoisers import DenoiserLike, GaussianFlow
from scoresde.devices import exact, float64_device
from scoresde.training import TrainingOptions, start, train
from scoresde.training.time_sampling import LogNormal
from scoresde.tuning import Settings
from scoresde.tuning.gits import gits
from tests.fake_device import DEVICE, OnDevice, with_device
from tests.problems import BLACK_BOXES, Net, calls, normal

ROUGH = {  # few steps, for a simulated device is slow
    "adaptive-em": "adaptive-em:rtol=1,atol=0.3,h_init=0.1",
    "dpm-adaptive-12": "dpm-adaptive-12:rtol=0.2",
    "dpm-adaptive-23": "dpm-adaptive-23:rtol=0.2",
    "scipy": "scipy:rtol=1e-2,atol=1e-2",
}
DOPRI = "ode:method=dopri5,rtol=1e-2,atol=1e-2"
SOME = [ROUGH.get(name, name) for name in (*BLACK_BOXES, "ddim", "unipc", "dpmpp-3m-sde", "restart")]
UNLIMITED = [
    *ROUGH.values(),
    DOPRI,
    "ode:method=scipy_solver,rtol=1e-2,atol=1e-2",
    "scipy:method=BDF,rtol=1e-2",
]
MORE = [*UNLIMITED[-3:], "ode:method=explicit_adams", "pc:measured=true"]
MORE += [f"torchsde:method={method}" for method in ("milstein", "srk", "heun", "midpoint", "euler_heun")]


@pytest.fixture(autouse=True)
def _device() -> Iterator[None]:
    with with_device():
        yield


def on_device(x: Tensor) -> Tensor:
    moved = x.to(DEVICE)
    assert isinstance(moved, OnDevice)
    return moved


def alike(there: Tensor, here: Tensor, tolerance: float = 1e-5) -> None:
    assert isinstance(there, OnDevice)
    assert there.dtype == here.dtype
    assert torch.allclose(there.cpu(), here, tolerance, tolerance * float(here.abs().max()))


def test_the_device_has_no_float64() -> None:
    """What finds the fault, finds it."""
    x = on_device(torch.ones(3))
    for make in (
        lambda: x.double(),
        lambda: x.new_tensor(1.0, dtype=torch.float64),
        lambda: torch.zeros(3, dtype=torch.float64, device=DEVICE),
        lambda: torch.tensor([1.0], dtype=torch.float64, device=x.device),
        lambda: x.sum(dtype=torch.float64),
        lambda: x.to("cpu", torch.float64),
        lambda: torch.ones(3, dtype=torch.float64).to(DEVICE),
    ):
        with pytest.raises(TypeError, match="no float64"):
            make()
    with pytest.raises(RuntimeError, match="two devices"):
        x + torch.ones(3)
    alike(torch.ones(3, dtype=torch.float64).to(x), torch.ones(3))
    assert float64_device(x.device) == exact(x).device == torch.device("cpu")
    assert float64_device(torch.device("cpu")) == torch.device("cpu")


def denoiser(sde: SDE | None = None) -> Denoiser:
    return Denoiser(Net(), sde or EDM(0.1, 5.0), predict.v).requires_grad_(False)


def both(make: Callable[[], Any], draw: Callable[[Any, torch.device], Tensor]) -> None:
    alike(draw(make().to(DEVICE), DEVICE), draw(make(), torch.device("cpu")))


@pytest.mark.parametrize("solver", [*SOME, *MORE])
def test_every_kind_of_solver_runs(solver: str) -> None:
    nfe = None if solver in UNLIMITED else calls(solver.partition(":")[0], 12)
    both(denoiser, lambda net, device: sample(net, solver, (3, 2), nfe=nfe, device=device, batch_size=2))


def test_all_kinds_of_solver_were_tried() -> None:
    assert {spec.partition(":")[0] for spec in SOME} >= set(BLACK_BOXES)


@pytest.mark.parametrize(
    "solver", [ROUGH["dpm-adaptive-23"], ROUGH["adaptive-em"], "parallel", DOPRI, "unipc"]
)
@pytest.mark.parametrize("kind", ["numbered", "transported"])
def test_levels_of_every_sample_reach_every_denoiser(solver: str, kind: str) -> None:
    def make() -> nn.Module:
        return (
            denoiser(DiscreteVPSDE(t_min=0.1, t_max=0.6))
            if kind == "numbered"
            else Transported(denoiser(), VPSDE(t_min=0.1, t_max=0.6))
        )

    nfe = None if solver in UNLIMITED else 12
    both(make, lambda net, device: sample(net, solver, (3, 2), nfe=nfe, device=device))


GUIDED: dict[str, Callable[[Denoiser], DenoiserLike]] = {
    "guided": lambda net: Guided(net, Given(net, torch.ones(1)), Interval(2.0, 0.3, 3.0, 0.15)),
    "in two calls": lambda net: Guided(
        net, Given(net, torch.ones(1)), Interval(2.0, 0.3, 3.0), together=False
    ),
    "with rules": lambda net: Guided(net, Given(net, None), 2.0, rule=Rescaled(0.5, Projected(0.5))),
    "thresholded": lambda net: Thresholded(net, 0.5, 0.9),
}


@pytest.mark.parametrize("solver", ["unipc", ROUGH["dpm-adaptive-12"], DOPRI])
@pytest.mark.parametrize("kind", GUIDED)
def test_guidance(kind: str, solver: str) -> None:
    nfe, cond = None if solver in UNLIMITED else 12, torch.linspace(-1, 1, 3)
    both(
        denoiser,
        lambda net, device: sample(GUIDED[kind](net), solver, (3, 2), nfe=nfe, device=device, cond=cond),
    )


@pytest.mark.parametrize("solver", ["dpm-adaptive-12", "parallel"])
def test_what_is_not_finite_is_said_of_there_as_well(solver: str) -> None:
    broken = Denoiser(lambda x, t: x / (x.abs() < 5), EDM(), predict.data)
    with pytest.raises(FloatingPointError, match=r"not finite in call 1, at t = 80"):
        sample(broken, solver, (3, 2), nfe=40, device=DEVICE)


def test_a_compiled_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(function: Any, **options: Any) -> Any:
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    for made in (scoresde.plans.compiled._kernel, scoresde.plans.compiled._drawn):
        monkeypatch.setattr(scoresde.plans.compiled, made.__name__, made.__wrapped__)
    both(denoiser, lambda net, device: sample(net, "unipc", (3, 2), nfe=5, device=device, compile=True))


@pytest.mark.parametrize("sde", [VPSDE(), DiscreteVPSDE()], ids=lambda sde: type(sde).__name__)
def test_a_process_on_samples_there(sde: SDE) -> None:
    x, eps, t = normal(3, 2).float(), normal(3, 2, seed=1).float(), torch.tensor([0.1, 0.5, 1.0])
    for here in (
        lambda x, t: sde.prior_sample(x),
        lambda x, t: sde.prior_log_density(x),
        lambda x, t: sde.marginal_sample(x, t, eps.to(x.device)),
        lambda x, t: sde.marginal_log_density(x, eps.to(x.device), t),
        lambda x, t: sde.reverse_drift(x, t, -x),
        lambda x, t: sde.time_of(sde.lam(t)),
    ):
        alike(here(x.to(DEVICE), t.to(DEVICE)), here(x, t), 1e-4)
    # Times in float64 may stay on the host.
    alike(
        sde.marginal_sample(x.to(DEVICE), t.double(), eps.to(DEVICE)), sde.marginal_sample(x, t.double(), eps)
    )


def test_a_step_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *arguments, **options: nullcontext()
    )  # it knows its devices
    options, time_sampling = TrainingOptions(steps=3, batch_size=4), LogNormal(mean=-0.4)

    def losses(net: nn.Module, sde: SDE) -> list[float]:
        state = start(Denoiser(net, sde, predict.v), options)
        return [
            one.loss
            for one in train(state, normal(8, 2).float(), options=options, time_sampling=time_sampling)
        ]

    for sde in (EDM(), DiscreteVPSDE()):
        with torch.random.fork_rng([]):
            nets = [nn.Linear(2, 2), nn.Linear(2, 2)]
        nets[1].load_state_dict(nets[0].state_dict())
        one, other = (_InTime(net) for net in nets)
        assert losses(one.to(DEVICE), sde) == pytest.approx(losses(other, sde), rel=1e-5)


class _InTime(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.inner(x) / (1 + t.abs()[:, None])
        return out


@pytest.mark.parametrize("kind", ["scalar", "by_component"])
def test_the_flow_of_normal_data(kind: str) -> None:
    data, begin, end = (
        normal(20, 3).float(),
        prepare("ddim", EDM(), 1).start,
        prepare("ddim", VPSDE(), 1).start,
    )
    x = 80 * normal(4, 3, seed=1).float()
    make = getattr(GaussianFlow, kind)
    expected = make(data)(x, begin, end)
    alike(make(data)(x.to(DEVICE), begin, end), expected)
    alike(make(data.to(DEVICE))(x.to(DEVICE), begin, end), expected)
    flow = make(data)
    given = (flow.mean, flow.variances, *([] if flow.components is None else [flow.components]))
    alike(
        GaussianFlow(*(value.to(DEVICE, torch.float32) for value in given))(x.to(DEVICE), begin, end),
        expected,
    )


def test_statistics_of_a_network() -> None:
    x0 = normal(6, 2).float()
    here = model_statistics(denoiser(), x0, points=4)
    there = model_statistics(denoiser().to(DEVICE), x0.to(DEVICE), points=4)
    for name in ("lam", "linear", "log_rms"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-5)


def test_a_mixture_and_its_moments() -> None:
    parts = torch.tensor([[1.0, 0.2], [-0.8, 0.6]]), torch.tensor([0.1, 0.2]), torch.tensor([0.5, 0.5])
    there = Mixture(*(part.to(DEVICE) for part in parts))
    for one, other in zip(there.moments(), Mixture(*parts).moments(), strict=True):
        assert torch.equal(one, other)
    exactly = ExactDenoiser(Mixture(*parts), EDM())
    end = sample(exactly, ROUGH["dpm-adaptive-23"], (3, 2), device=DEVICE)
    alike(end, sample(exactly, ROUGH["dpm-adaptive-23"], (3, 2)), 1e-4)


def test_levels_chosen_by_a_network() -> None:
    x = 80 * normal(3, 2).float()
    there, here = (
        gits(net, part, net.sde, fine=8)
        for net, part in ((denoiser().to(DEVICE), x.to(DEVICE)), (denoiser(), x))
    )
    assert torch.equal(there(EDM(0.1, 5.0), 4), here(EDM(0.1, 5.0), 4))


def test_a_tuning() -> None:
    settings = Settings(
        samples=16, held_out=8, iterations=1, solvers=("ddim",), spacings=("karras",), starts=1
    )

    def rmse(net: Denoiser, device: torch.device) -> tuple[Plan, float]:
        plan, report = tune(net.eval(), 2, (2,), settings=settings, device=device)
        return plan, report.rmse.value

    (_, there), (_, here) = rmse(denoiser().to(DEVICE), DEVICE), rmse(denoiser(), torch.device("cpu"))
    assert there == pytest.approx(here, rel=1e-2)


def test_noise_is_the_noise() -> None:
    there = Noise(5, torch.arange(3, device=DEVICE), (2, 3))(1)
    alike(there, Noise(5, torch.arange(3), (2, 3))(1), 0.0)


def test_levels_that_are_tensors_of_the_host() -> None:
    x, level = normal(3, 2).float(), EDM().level(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    net: Any = denoiser()
    alike(net.to(DEVICE)(x.to(DEVICE), level), denoiser()(x, level))
    on = Level(*(number.float().to(DEVICE) for number in level))
    alike(net(x.to(DEVICE), on), denoiser()(x, Level(*(number.float() for number in level))))
