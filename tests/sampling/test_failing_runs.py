"""Runs that fail or are interrupted, and their progress bar."""

import re

import pytest
import torch
from torch import Tensor
from tqdm import tqdm

from scoresde import (
    VPSDE,
    Denoiser,
    Plan,
    UniformTime,
    predict,
    sample,
)
from scoresde.solvers import EulerMaruyama
from scoresde.solvers.integrators.ode import ODE
from tests.problems import (
    COUNTED,
    TABLES,
    Net,
    calls,
)


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


def test_an_overflow_of_the_state_is_not_blamed_on_the_network() -> None:
    net = lambda x, t: torch.full_like(x, 3e38)  # noqa: E731
    plan = Plan.make(EulerMaruyama(), VPSDE(), 3, UniformTime())
    assert plan.amplification > 1.5  # of an output that is nearly the largest number that there is
    with pytest.raises(
        FloatingPointError, match="the state overflowed, though every output of the network is"
    ):
        sample(Denoiser(net, VPSDE(), predict.data), plan, (2, 2))


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
    assert shown.err.endswith("\n")  # the next output begins on a new line
    assert re.search(r"[23]/8", shown.err.splitlines()[-1])
    assert not list(getattr(tqdm, "_instances", []))
    sample(Denoiser(Net(), VPSDE(), predict.noise), "ddim", (4, 2), nfe=8, progress=True)
    assert "8/8" in capsys.readouterr().err
