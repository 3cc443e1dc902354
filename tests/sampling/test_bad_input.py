"""Bad input is refused by name, before the network is called."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    VESDE,
    VPSDE,
    Cosine,
    Counted,
    Denoiser,
    DiscreteVPSDE,
    Karras,
    Plan,
    RectifiedFlow,
    SubVPSDE,
    UniformLambda,
    UniformTime,
    ddim_sampler,
    dpm_sampler,
    em_sampler,
    ode_sampler,
    pc_sampler,
    predict,
    sample,
    solver_of,
)
from scoresde.denoisers.predictions import PREDICTIONS, Prediction
from scoresde.processes.catalogue import SDES
from scoresde.registry import build
from scoresde.solvers import DDIM, DPMSolver, DPMSolverPP, EulerMaruyama, PredictorCorrector
from scoresde.solvers.integrators.ode import ODE
from scoresde.solvers.integrators.reverse_sde import TorchSDE
from scoresde.spacings import SPACINGS, AtTimes
from tests.problems import Infinite
from tests.sampling.bad_input import NET, PLAN, VP, Net, denoiser, draw

# A call, its exception, and parts of its message: the argument, the value, and often what is allowed.
CASES: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    # names
    "solver": (lambda: solver_of("dpm4"), ValueError, ["unknown solver 'dpm4'", "did you mean 'dpm", "heun"]),
    "solver drawn from": (lambda: draw("heum"), ValueError, ["unknown solver 'heum'", "'heun'"]),
    "empty solver": (lambda: solver_of(""), ValueError, ["unknown solver ''", "ddim"]),
    "solver option": (
        lambda: solver_of("ddim:etta=1"),
        ValueError,
        ["solver 'ddim' has no option 'etta'", "did you mean 'eta'?"],
    ),
    "option of a solver without": (
        lambda: solver_of("heun:order=2"),
        ValueError,
        ["'heun' has no option 'order'"],
    ),
    "solver option of a wrong type": (
        lambda: solver_of("ddim:eta=much"),
        ValueError,
        ["solver 'ddim' option eta", "got 'much'"],
    ),
    "solver order of a wrong type": (
        lambda: solver_of("dpm2:order=2.5"),
        ValueError,
        ["option order", "got 2.5"],
    ),
    "solver option without a value": (
        lambda: solver_of("ddim:eta"),
        ValueError,
        ["name:key=value,key=value", "'ddim:eta'"],
    ),
    "SDE": (
        lambda: build("SDE", SDES, "vpp"),
        ValueError,
        ["unknown SDE 'vpp'", "did you mean 'vp'?", "edm"],
    ),
    "SDE option": (
        lambda: build("SDE", SDES, {"name": "vp", "beta_mx": 20.0}),
        ValueError,
        ["SDE 'vp' has no option 'beta_mx'", "did you mean 'beta_max'?"],
    ),
    "SDE option of a wrong type": (
        lambda: build("SDE", SDES, {"name": "vp", "beta_max": "20"}),
        ValueError,
        ["SDE 'vp' option beta_max", "got '20'"],
    ),
    "SDE option of a wrong value": (
        lambda: build("SDE", SDES, {"name": "vp", "beta_max": 0.01}),
        ValueError,
        ["SDE 'vp'", "beta_min < beta_max", "beta_max=0.01"],
    ),
    "spacing": (
        lambda: build("spacing", SPACINGS, "karas"),
        ValueError,
        ["unknown spacing 'karas'", "did you mean 'karras'?", "uniform-t"],
    ),
    "spacing option": (
        lambda: build("spacing", SPACINGS, {"name": "karras", "ro": 7.0}),
        ValueError,
        ["spacing 'karras' has no option 'ro'", "did you mean 'rho'?"],
    ),
    "option of a spacing without": (
        lambda: build("spacing", SPACINGS, {"name": "uniform-t", "rho": 7.0}),
        ValueError,
        ["spacing 'uniform-t' has no option 'rho'", "it has none"],
    ),
    "spacing option of a wrong value": (
        lambda: build("spacing", SPACINGS, {"name": "karras", "rho": -1.0}),
        ValueError,
        ["spacing 'karras'", "rho must be positive", "got -1.0"],
    ),
    "prediction": (
        lambda: build("prediction", PREDICTIONS, "noize"),
        ValueError,
        ["unknown prediction 'noize'", "did you mean 'noise'?"],
    ),
    "ode method": (lambda: ODE("dopri6"), ValueError, ["method must be one of", "dopri5", "got 'dopri6'"]),
    "ode method by name": (
        lambda: draw("ode:method=rk5"),
        ValueError,
        ["method must be one of", "got 'rk5'"],
    ),
    "torchsde method": (lambda: TorchSDE("srk2"), ValueError, ["method must be one of", "srk", "got 'srk2'"]),
    "predictor": (lambda: solver_of("pc:predictor=ddmi"), ValueError, ["unknown solver 'ddmi'", "'ddim'?"]),
    "predictor that is a number": (lambda: solver_of("pc:predictor=3"), ValueError, ["unknown solver '3'"]),
    "predictor that is no table": (
        lambda: solver_of("pc:predictor=ode"),
        ValueError,
        ["predictor must be", "table", "got ODE"],
    ),
    # budgets
    "no nfe": (lambda: draw(nfe=None), TypeError, ["nfe must be an integer", "got None"]),
    "nfe 0": (lambda: draw(nfe=0), ValueError, ["nfe must be at least 1", "got 0"]),
    "nfe -1": (lambda: draw(nfe=-1), ValueError, ["nfe must be at least 1", "got -1"]),
    "nfe 2.5": (lambda: draw(nfe=2.5), TypeError, ["nfe must be an integer", "got 2.5"]),
    "nfe '9'": (lambda: draw(nfe="9"), TypeError, ["nfe must be an integer", "got '9'"]),
    "nfe True": (lambda: draw(nfe=True), TypeError, ["nfe must be an integer", "got True"]),
    "nfe of ode True": (lambda: draw("ode", nfe=True), TypeError, ["nfe must be an integer", "got True"]),
    "nfe of ode 0": (
        lambda: draw("ode:method=dopri5", nfe=0),
        ValueError,
        ["nfe must be at least 1", "got 0"],
    ),
    "nfe too small for heun": (
        lambda: draw("heun", nfe=1),
        ValueError,
        ["nfe must be at least 2", "Heun", "got 1"],
    ),
    "nfe too small for dpm3": (lambda: draw("dpm3", nfe=2), ValueError, ["nfe must be at least 3", "got 2"]),
    "nfe too small for dpm3 to clean": (
        lambda: draw("dpm3", nfe=3, to_clean=True),
        ValueError,
        ["nfe must be at least 4", "got 3"],
    ),
    "nfe too small for pc": (
        lambda: draw("pc:corrections=4", nfe=4),
        ValueError,
        ["nfe must be at least 5", "PredictorCorrector", "got 4"],
    ),
    "nfe too small for rk4": (
        lambda: draw("ode:method=rk4", nfe=4, to_clean=True),
        ValueError,
        ["nfe must be at least 5", "rk4", "got 4"],
    ),
    "nfe too small for srk": (
        lambda: draw("torchsde:method=srk", nfe=2),
        ValueError,
        ["nfe must be at least 3", "srk", "got 2"],
    ),
    "nfe too small for listed times": (
        lambda: draw(spacing=AtTimes([0.9, 0.5, 0.2, 0.1]), nfe=2),
        ValueError,
        ["nfe must be at least 3", "got 2"],
    ),
    "nfe beside a plan": (lambda: draw(PLAN, nfe=3), TypeError, ["a plan has its own nfe"]),
    "spacing beside a plan": (lambda: draw(PLAN, nfe=None, spacing=Karras()), TypeError, ["plan", "spacing"]),
    "to_clean beside a plan": (lambda: draw(PLAN, nfe=None, to_clean=True), TypeError, ["plan", "end"]),
    # arguments of sample
    "solver that is none": (lambda: draw(3), TypeError, ["solver must be a solver", "got 3"]),
    "solver that is a class": (lambda: draw(DDIM), TypeError, ["solver must be a solver", "DDIM"]),
    "a network for a denoiser": (
        lambda: draw(of=NET),
        TypeError,
        ["denoiser must be a Denoiser", "got Net"],
    ),
    "empty shape": (lambda: draw(shape=()), ValueError, ["shape must be positive integers", "got ()"]),
    "no samples": (lambda: draw(shape=(0, 2)), ValueError, ["shape must be positive integers", "got (0, 2)"]),
    "an empty axis": (lambda: draw(shape=(2, 0)), ValueError, ["shape", "got (2, 0)"]),
    "negative shape": (lambda: draw(shape=(-3, 2)), ValueError, ["shape", "got (-3, 2)"]),
    "fractional shape": (lambda: draw(shape=(3, 2.0)), ValueError, ["shape", "got (3, 2.0)"]),
    "shape of booleans": (lambda: draw(shape=(True, 2)), ValueError, ["shape", "got (True, 2)"]),
    "fractional seed": (lambda: draw(seed=0.5), TypeError, ["seed must be an integer", "got 0.5"]),
    "seed of a word": (lambda: draw(seed="a"), TypeError, ["seed must be an integer", "got 'a'"]),
    "too few ids": (lambda: draw(ids=torch.arange(2)), ValueError, ["ids must be 3 integers", "(2,)"]),
    "ids of two axes": (lambda: draw(ids=torch.zeros(3, 1).long()), ValueError, ["ids must be 3", "(3, 1)"]),
    "fractional ids": (lambda: draw(ids=torch.ones(3)), ValueError, ["ids must be 3 integers", "float32"]),
    "boolean ids": (lambda: draw(ids=torch.ones(3) > 0), ValueError, ["ids must be 3 integers", "bool"]),
    "ids of a list": (lambda: draw(ids=[0, 1, 2]), TypeError, ["ids must be a tensor", "got list"]),
    "x of another shape": (
        lambda: draw(x=torch.ones(3, 3)),
        ValueError,
        ["x must have the shape (3, 2)", "(3, 3)"],
    ),
    "x of a list": (lambda: draw(x=[[0.0] * 2] * 3), TypeError, ["x must be a tensor", "got list"]),
    "cond of wrong length": (
        lambda: draw(cond=torch.arange(4)),
        ValueError,
        ["cond must hold 3 conditions", "(4,)"],
    ),
    "cond of one number": (
        lambda: draw(cond=torch.tensor(1)),
        ValueError,
        ["cond must hold 3 conditions", "()"],
    ),
    "cond of numbers": (lambda: draw(cond=[1, 2, 3]), TypeError, ["cond[0] must be a tensor", "got int"]),
    "cond of a word": (lambda: draw(cond="seven"), TypeError, ["cond must be a tensor", "got str"]),
    "a part of cond of wrong length": (
        lambda: draw(cond={"label": torch.arange(3), "text": (None, torch.zeros(4, 7))}),
        ValueError,
        ["cond['text'][1] must hold 3 conditions", "(4, 7)"],
    ),
    "a part of cond of one number": (
        lambda: draw(cond=(torch.arange(3), torch.tensor(1.0))),
        ValueError,
        ["cond[1] must hold 3 conditions", "()"],
    ),
    "label too large": (
        lambda: draw(cond=torch.tensor([0, 11, 3])),
        ValueError,
        ["cond must hold labels in [0, 10]", "10 for no class", "0 to 11"],
    ),
    "label negative": (
        lambda: draw(cond=torch.tensor([0, -1, 3])),
        ValueError,
        ["labels in [0, 10]", "-1 to 3"],
    ),
    "label too large, counted": (
        lambda: draw(of=Counted(denoiser()), cond=torch.tensor([0, 11, 3])),
        ValueError,
        ["labels in [0, 10]", "0 to 11"],
    ),
    "batch_size 0": (lambda: draw(batch_size=0), ValueError, ["batch_size", "at least 1", "got 0"]),
    "batch_size -2": (lambda: draw(batch_size=-2), ValueError, ["batch_size", "at least 1", "got -2"]),
    "batch_size 2.5": (lambda: draw(batch_size=2.5), ValueError, ["batch_size", "integer", "got 2.5"]),
    "dtype float16": (
        lambda: draw(dtype=torch.float16),
        ValueError,
        ["dtype must be float32 or float64", "got torch.float16"],
    ),
    "dtype bfloat16": (lambda: draw(dtype=torch.bfloat16), ValueError, ["dtype must be", "torch.bfloat16"]),
    "dtype int64": (lambda: draw(dtype=torch.int64), ValueError, ["dtype must be", "torch.int64"]),
    "dtype of the network": (
        lambda: Denoiser(NET, VP, predict.noise, dtype=torch.int32),
        ValueError,
        ["dtype must be one of", "got torch.int32"],
    ),
    "denoiser of no network": (lambda: Denoiser(3, VP, predict.noise), TypeError, ["callable net", "int"]),
    "denoiser of no SDE": (lambda: Denoiser(NET, 3, predict.noise), TypeError, ["an SDE", "int"]),
    "denoiser of no prediction": (lambda: Denoiser(NET, VP, 3), TypeError, ["a prediction", "int"]),
    # processes
    "sigma_min = sigma_max": (
        lambda: VESDE(2.0, 2.0),
        ValueError,
        ["sigma_min < sigma_max", "sigma_min=2.0"],
    ),
    "sigma_min > sigma_max": (lambda: VESDE(3.0, 2.0), ValueError, ["sigma_min=3.0, sigma_max=2.0"]),
    "sigma_min negative": (lambda: VESDE(-1.0, 2.0), ValueError, ["sigma_min", "sigma_min=-1.0"]),
    "sigma_min 0": (lambda: VESDE(0.0, 2.0), ValueError, ["sigma_min", "sigma_min=0.0"]),
    "sigma_min NaN": (lambda: VESDE(math.nan, 2.0), ValueError, ["sigma_min=nan"]),
    "sigma_max NaN": (lambda: VESDE(0.1, math.nan), ValueError, ["sigma_max=nan"]),
    "sigma_max infinite": (lambda: VESDE(0.1, math.inf), ValueError, ["finite", "sigma_max=inf"]),
    "sigma_max of a word": (lambda: VESDE(0.1, "50"), TypeError, ["sigma_max", "'50'"]),
    "beta_min > beta_max": (lambda: VPSDE(20.0, 0.1), ValueError, ["beta_min < beta_max", "beta_min=20.0"]),
    "beta_min > beta_max of sub-VP": (lambda: SubVPSDE(20.0, 0.1), ValueError, ["SubVPSDE", "beta_min=20.0"]),
    "beta_min negative": (lambda: VPSDE(-0.1, 20.0), ValueError, ["beta_min=-0.1"]),
    "beta_max NaN": (lambda: VPSDE(0.1, math.nan), ValueError, ["beta_max=nan"]),
    "t_min 0 of VP": (lambda: VPSDE(t_min=0.0), ValueError, ["t_min", "t_min=0.0"]),
    "t_min > t_max": (lambda: EDM(80.0, 0.002), ValueError, ["t_min < t_max", "t_min=80.0"]),
    "t_max 1 of cosine": (lambda: Cosine(t_max=1.0), ValueError, ["t_max", "t_max=1.0"]),
    "t_max 2 of rectified flow": (lambda: RectifiedFlow(t_max=2.0), ValueError, ["t_max", "t_max=2.0"]),
    "schedule": (lambda: DiscreteVPSDE(schedule="sigmoid"), ValueError, ["schedule", "linear", "'sigmoid'"]),
    "steps": (lambda: DiscreteVPSDE(steps=1), ValueError, ["steps", "at least 2", "got 1"]),
    "t beyond the SDE": (
        lambda: VP.marginal(torch.ones(2, 3), torch.tensor([0.5, 1.5])),
        ValueError,
        ["t must be in [0.001, 1.0]", "1.5"],
    ),
    "t before the SDE": (
        lambda: VP.marginal_sample(torch.ones(2, 3), torch.tensor(0.0), torch.ones(2, 3)),
        ValueError,
        ["t must be in [0.001, 1.0]", "got 0"],
    ),
    "t of wrong length": (
        lambda: VP.marginal(torch.ones(2, 3), torch.tensor([0.5] * 3)),
        ValueError,
        ["t must be one number or 2", "(3,)"],
    ),
    "clip to nothing": (lambda: VP.clip(9.0, 99.0), ValueError, ["lam_min and lam_max", "got 9.0, 99.0"]),
    "sigma_data": (lambda: predict.edm(0.0), ValueError, ["sigma_data must be positive", "got 0.0"]),
    # times
    "times that rise": (
        lambda: draw(spacing=AtTimes([0.2, 0.5, 0.1])),
        ValueError,
        ["times must strictly fall", "0.2 before 0.5"],
    ),
    "times that repeat": (lambda: draw(spacing=AtTimes([0.5, 0.5])), ValueError, ["times", "0.5 before 0.5"]),
    "times that leave the SDE": (
        lambda: draw(spacing=AtTimes([1.5, 0.5])),
        ValueError,
        ["times must be in [0.001, 1.0]", "got 1.5"],
    ),
    "a single time": (lambda: AtTimes([0.5]), ValueError, ["times must be at least 2", "[0.5]"]),
    "spacing by no name": (
        lambda: draw(spacing="karas"),
        ValueError,
        ["unknown spacing 'karas'", "'karras'?"],
    ),
    "spacing of ode by no name": (
        lambda: draw("ode", spacing="karas"),
        ValueError,
        ["unknown spacing 'karas'"],
    ),
    "spacing that is a number": (lambda: draw(spacing=3), TypeError, ["spacing must be", "got 3"]),
    "spacing of ode that is one": (lambda: draw("ode", spacing=3), TypeError, ["spacing must be", "got 3"]),
    "rho": (lambda: Karras(0.0), ValueError, ["rho must be positive", "got 0.0"]),
    "no steps": (lambda: Plan.make(DDIM(), VP, 0), ValueError, ["at least 1 steps", "got 0"]),
    "no step before the one to clean": (
        lambda: Plan.make(DDIM(), VP, 1, to_clean=True),
        ValueError,
        ["at least 2 steps", "got 1"],
    ),
    # solvers
    "order 4": (lambda: DPMSolver(4), ValueError, ["order must be 1, 2 or 3", "got 4"]),
    "order 0": (lambda: DPMSolver(0), ValueError, ["order must be 1, 2 or 3", "got 0"]),
    "order 4 of ++": (lambda: DPMSolverPP(4), ValueError, ["multistep must be 1, 2 or 3", "got 4"]),
    "order 4 by name": (lambda: draw("dpm2:order=4"), ValueError, ["order must be 1, 2 or 3", "got 4"]),
    "eta negative": (lambda: DDIM(-0.1), ValueError, ["eta must be at least 0", "at most 1", "got -0.1"]),
    "eta above 1": (lambda: DDIM(1.1), ValueError, ["eta", "at most 1", "got 1.1"]),
    "eta of em negative": (lambda: EulerMaruyama(-1.0), ValueError, ["eta must be at least 0", "got -1.0"]),
    "eta of ++ negative": (lambda: DPMSolverPP(2, -1.0), ValueError, ["eta must be at least 0", "got -1.0"]),
    "eta NaN": (lambda: EulerMaruyama(math.nan), ValueError, ["eta", "got nan"]),
    "eta by name": (lambda: draw("ddim:eta=-1"), ValueError, ["eta must be at least 0", "got -1"]),
    "snr 0": (lambda: PredictorCorrector(snr=0.0), ValueError, ["snr must be positive", "got 0.0"]),
    "snr negative": (lambda: draw("pc:snr=-0.1"), ValueError, ["snr must be positive", "got -0.1"]),
    "corrections": (lambda: PredictorCorrector(corrections=-1), ValueError, ["corrections", "got -1"]),
    "rtol": (lambda: ODE(rtol=0.0), ValueError, ["rtol and atol must be positive", "0.0"]),
    "atol": (lambda: draw("ode:atol=-1e-3"), ValueError, ["rtol and atol must be positive", "-0.001"]),
    "options of ddim_sampler": (
        lambda: ddim_sampler(NET, VP, (3, 2), prediction=predict.noise, eta=2.0),
        ValueError,
        ["eta", "got 2.0"],
    ),
    "options of dpm_sampler": (
        lambda: dpm_sampler(NET, VP, (3, 2), prediction=predict.noise, order=4),
        ValueError,
        ["order", "got 4"],
    ),
    "options of em_sampler": (
        lambda: em_sampler(NET, VP, (3, 2), prediction=predict.noise, eta=-1.0),
        ValueError,
        ["eta", "got -1.0"],
    ),
    "options of pc_sampler": (
        lambda: pc_sampler(NET, VP, (3, 2), prediction=predict.noise, snr=0.0),
        ValueError,
        ["snr", "got 0.0"],
    ),
    "options of ode_sampler": (
        lambda: ode_sampler(NET, VP, (3, 2), prediction=predict.noise, method="rk5"),
        ValueError,
        ["method", "got 'rk5'"],
    ),
    # where alpha is 0
    "noise at alpha 0": (
        lambda: draw(of=denoiser(RectifiedFlow())),
        ValueError,
        ["at t = 1", "alpha = 0", "clip the SDE", "velocity"],
    ),
    "noise at alpha 0, counted": (
        lambda: draw(of=Counted(denoiser(RectifiedFlow()))),
        ValueError,
        ["at t = 1", "alpha = 0", "clip the SDE", "velocity"],
    ),
    "score at alpha 0": (
        lambda: draw(of=denoiser(RectifiedFlow(), predict.score)),
        ValueError,
        ["at t = 1", "alpha = 0", "clip the SDE"],
    ),
    "a solver without a step from alpha 0": (
        lambda: draw(Infinite(), of=denoiser(RectifiedFlow(), predict.velocity)),
        ValueError,
        ["Infinite", "no finite step", "RectifiedFlow", "clip"],
    ),
    "uniform-lambda at alpha 0": (
        lambda: draw(of=denoiser(RectifiedFlow(), predict.velocity), spacing=UniformLambda()),
        ValueError,
        ["no half log-SNR at t_max", "uniform-t"],
    ),
    "Adams on uneven steps": (
        lambda: draw("ode:method=explicit_adams", nfe=30, spacing=UniformTime()),
        ValueError,
        ["spacing must be None or uniform-lambda", "explicit_adams"],
    ),
    "no plan file": (lambda: Plan.load("nowhere/plan.json"), ValueError, ["nowhere/plan.json", "no plan"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_by_name(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    do, error, words = CASES[case]
    with pytest.raises(Exception) as raised:  # noqa: PT011
        do()
    assert raised.type is error
    for word in words:
        assert word in str(raised.value)
    assert NET.calls == 0
    assert not list(tmp_path.iterdir())


def test_the_cases_would_run_without_their_fault() -> None:
    """The same calls with nothing wrong: no case above is refused for another reason than its own."""
    net = Net()
    good = Denoiser(net, VP, predict.noise)
    options: dict[str, Any] = {
        "seed": 3,
        "ids": torch.arange(3),
        "x": torch.ones(3, 2),
        "cond": torch.tensor([0, 10, 3]),
        "batch_size": 2,
        "dtype": torch.float64,
    }
    assert sample(good, "ddim", (3, 2), nfe=4, **options).shape == (3, 2)
    assert net.calls == 8
    for solver in (
        "pc:predictor=heun,corrections=1",
        "ode:method=explicit_adams",
        "torchsde:method=srk",
        PLAN,
    ):
        sample(good, solver, (3, 2), nfe=None if solver is PLAN else 30)
    for name in (
        "ddim",
        "heun",
        "dpm3",
        "dpmpp-3m",
        "ancestral",
        "reverse-diffusion",
        "em",
        "ode",
        "torchsde",
    ):
        at_alpha_0 = Denoiser(net, RectifiedFlow(), predict.velocity)
        assert torch.isfinite(sample(at_alpha_0, name, (3, 2), nfe=6)).all()
    assert torch.isfinite(sample(denoiser_of(net, predict.edm()), "ddim", (3, 2), nfe=6)).all()


def denoiser_of(net: Net, prediction: Prediction) -> Denoiser:
    return Denoiser(net, RectifiedFlow(t_max=0.999), prediction)


# Networks: what they return is known at their first call, and not before.
@pytest.mark.parametrize(
    ("net", "error", "words"),
    [
        (lambda x, t: x[:, :1], ValueError, ["(3, 2)", "(3, 1)"]),
        (lambda x, t: x.repeat(1, 2), ValueError, ["shape and type of its input", "(3, 2)", "(3, 4)"]),
        (lambda x, t: x[0], ValueError, ["(3, 2)", "(2,)"]),
        (lambda x, t: x.double(), ValueError, ["torch.float32", "torch.float64"]),
        (lambda x, t: x.long(), ValueError, ["torch.float32", "torch.int64"]),
        (lambda x, t: (x, x), TypeError, ["must return a tensor", "tuple"]),
        (lambda x, t: None, TypeError, ["must return a tensor", "NoneType"]),
    ],
    ids=["narrower", "wider", "of one sample", "float64", "int64", "tuple", "None"],
)
@pytest.mark.parametrize("solver", ["ddim", "em", "ode", "torchsde"])
def test_a_networks_output_must_be_like_its_input(
    solver: str, net: Any, error: type[Exception], words: list[str]
) -> None:
    calls = 0

    def counted(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        result: Tensor = net(x, t)
        return result

    with pytest.raises(error) as raised:
        sample(Denoiser(counted, VP, predict.noise), solver, (3, 2), nfe=6)
    assert all(word in str(raised.value) for word in words)
    assert calls == 1
