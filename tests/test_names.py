"""Things by name wherever solvers are, and what an error says of names that other libraries have."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch

from scoresde import (
    EDM,
    SOLVERS,
    VPSDE,
    Denoiser,
    DiscreteVPSDE,
    Karras,
    Plan,
    SubVPSDE,
    Transported,
    UniformTime,
    pc_sampler,
    predict,
    prepare,
    sample,
    solver_of,
    spacing_of,
    tune,
)
from scoresde.aliases import ALIASES, plain
from scoresde.denoisers.predictions import PREDICTIONS, prediction_of
from scoresde.processes.catalogue import SDES, sde_of
from scoresde.solvers import DDIM
from scoresde.spacings import (
    SPACINGS,
    AtShares,
    AtTimes,
    Beta,
    Clipped,
    FlowTime,
    Grid,
    Joined,
    Measured,
    Polyexponential,
    PowerTime,
    Refined,
    Shifted,
    Under,
)
from scoresde.training import TrainingOptions, train
from scoresde.training.time_sampling import LogNormal
from scoresde.training.weighting import MinSNR
from scoresde.tuning import Settings
from scoresde.tuning.gits import gits
from tests.problems import Net, calls, normal

REGISTRIES: Mapping[str, Mapping[str, Any]] = {
    "solver": SOLVERS,
    "spacing": SPACINGS,
    "SDE": SDES,
    "prediction": PREDICTIONS,
}
MAKE: Mapping[str, Callable[[str], Any]] = {
    "solver": solver_of,
    "spacing": spacing_of,
    "SDE": sde_of,
    "prediction": prediction_of,
}


def net() -> Denoiser:
    return Denoiser(Net(), EDM(), predict.edm()).requires_grad_(False)


@pytest.mark.parametrize("solver", ["ddim", "ode", "torchsde", "dpm-adaptive-12", "parallel"])
def test_a_spacing_by_name_is_the_spacing(solver: str) -> None:
    name = "uniform-lambda" if solver == "ode" else "karras:rho=3"
    by_name, by_itself = (
        sample(net(), solver, (2, 3), nfe=calls(solver, 6), spacing=spacing, dtype=torch.float64)
        for spacing in (name, spacing_of(name))
    )
    assert torch.equal(by_name, by_itself)


def test_a_list_by_name_is_one_run() -> None:
    spec = "at-times:times=[80,9,1,0.1]"
    for solver in ("ddim", "ode:method=euler"):
        run = prepare(solver, "edm", 99, spec)
        assert run.nfe == 3
        assert run == prepare(solver, EDM(), 99, AtTimes([80, 9, 1, 0.1])) or solver != "ddim"
    with pytest.raises(ValueError, match="nfe must be at least 3"):
        prepare("ddim", "edm", 2, spec)


def test_spacings_within_spacings_and_plans_by_name() -> None:
    levels = Grid.build(EDM(), 6, "karras:rho=5").levels
    assert levels == Grid.build(EDM(), 6, Karras(5.0)).levels
    assert Plan.within(6, SOLVERS["ddim"], EDM(), "karras") == Plan.within(
        6, SOLVERS["ddim"], EDM(), Karras()
    )
    assert Plan.make(SOLVERS["ddim"], EDM(), 6, "karras") == Plan.make(SOLVERS["ddim"], EDM(), 6, Karras())
    for by_name, by_itself in (
        (spacing_of("shifted:spacing=beta,shift=2"), Shifted(Beta(), 2.0)),
        (spacing_of("clipped:spacing=karras,lam_min=-2"), Clipped(Karras(), -2.0)),
        (spacing_of("refined:spacing=beta,parts=3"), Refined(Beta(), 3)),
        (spacing_of("shifted:spacing=beta"), Shifted(Beta())),
        (spacing_of("joined:noisy=beta,clean=uniform-t,lam=0"), Joined(Beta(), UniformTime(), 0.0)),
        (
            gits(net(), normal(2, 3), EDM(), fine=8, spacing="karras"),
            gits(net(), normal(2, 3), EDM(), fine=8, spacing=Karras()),
        ),
    ):
        assert torch.equal(by_name(EDM(), 3), by_itself(EDM(), 3))


def test_processes_and_predictions_by_name() -> None:
    assert Denoiser(Net(), "sub-vp:beta_max=10.0", "v").sde == SubVPSDE(beta_max=10.0)
    assert Denoiser(Net(), "ddpm", "v").sde == DiscreteVPSDE()
    assert Denoiser(Net(), "vp", "velocity").prediction == predict.velocity
    x, level = normal(2, 3), EDM().level(torch.tensor([1.0, 2.0], dtype=torch.float64))
    for by_name, by_itself in (("edm:sigma_data=0.3", predict.edm(0.3)), ("noise", predict.noise)):
        assert torch.equal(
            Denoiser(Net(), "edm", by_name)(x, level), Denoiser(Net(), EDM(), by_itself)(x, level)
        )
    assert prepare("dpmpp-2m", "vp", 5, "beta") == prepare("dpmpp-2m", VPSDE(), 5, Beta())
    assert Transported(net(), "vp").sde == Transported(net(), VPSDE()).sde
    drawn = (
        pc_sampler(lambda x, t: -x, sde, (2, 3), prediction=p, nfe=8)
        for sde, p in (("vp", "score"), (VPSDE(), predict.score))
    )
    assert torch.equal(*drawn)


def trained(**options: Any) -> None:
    nothing: Any = None  # of a run that does not begin
    next(train(nothing, normal(8, 2), options=TrainingOptions(), **options))


def spaced(spacing: Any) -> None:
    sample(net(), "ddim", (2, 3), nfe=3, spacing=spacing)


UNCALLED: Mapping[str, tuple[Callable[[], Any], str]] = {
    **{
        maker.__name__: (partial(spaced, maker), f"{maker.__name__}()")
        for maker in (
            Karras,
            Polyexponential,
            PowerTime,
            FlowTime,
            Beta,
            AtTimes,
            Shifted,
            Clipped,
            Refined,
            Joined,
            Under,
            AtShares,
            Measured,
        )
    },
    "of a black box": (lambda: sample(net(), "ode", (2, 3), nfe=3, spacing=Karras), "Karras()"),
    "of a plan": (lambda: Plan.within(3, DDIM(), EDM(), Beta), "Beta()"),
    "within another": (lambda: Shifted(Karras), "Karras()"),
    "prediction": (lambda: Denoiser(Net(), EDM(), predict.edm), "EDMPrediction()"),
    "process": (lambda: Denoiser(Net(), VPSDE, predict.v), "VPSDE()"),
    "process of a run": (lambda: prepare("ddim", VPSDE, 3), "VPSDE()"),
    "process of a transported one": (lambda: Transported(net(), VPSDE), "VPSDE()"),
    "solver": (lambda: sample(net(), DDIM, (2, 3), nfe=3), "DDIM()"),
    "time sampling": (lambda: trained(time_sampling=LogNormal), "LogNormal()"),
    "weighting": (lambda: trained(weighting=MinSNR), "MinSNR()"),
}


@pytest.mark.parametrize("case", UNCALLED)
def test_a_class_in_place_of_an_instance_is_refused(case: str) -> None:
    build, call = UNCALLED[case]
    with pytest.raises(TypeError, match=rf"call it[:,] {re.escape(call)}"):
        build()


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("solver", "dpm++2m", "dpmpp-2m"),
        ("solver", "DPM++ 2M Karras", "dpmpp-2m"),
        ("solver", "dpmpp_2m", "dpmpp-2m"),
        ("solver", "sample_dpmpp_3m_sde", "dpmpp-3m-sde"),
        ("solver", "dpmpp_2m_sde_gpu", "dpmpp-2m-sde"),
        ("solver", "DDIM", "ddim"),
        ("solver", "DDIMScheduler", "ddim"),
        ("solver", "DDPM", "ancestral"),
        ("solver", "k_euler", "ddim"),
        ("solver", "EulerDiscreteScheduler", "ddim"),
        ("solver", "euler_a", "ancestral"),
        ("solver", "k_euler_ancestral", "ancestral"),
        ("solver", "EulerAncestralDiscreteScheduler", "ancestral"),
        ("solver", "k_heun", "heun"),
        ("solver", "k_dpm_2", "dpm2"),
        ("solver", "KDPM2AncestralDiscreteScheduler", "dpmpp-sde"),
        ("solver", "DPMSolverMultistepScheduler", "dpmpp-2m"),
        ("solver", "uni_pc", "unipc"),
        ("solver", "UniPCMultistepScheduler", "unipc"),
        ("solver", "ipndm_v", "ipndm-v"),
        ("solver", "dpm_adaptive", "dpm-adaptive-23"),
        ("solver", "default", "auto"),
        ("solver", "velocity_p3c4", "velocity-p3c4"),
        ("solver", "ddmi", "ddim"),
        ("spacing", "Karras", "karras"),
        ("spacing", "align_your_steps", "align-your-steps"),
        ("spacing", "uniform_lam", "uniform-lambda"),
        ("spacing", "exponential", "uniform-lambda"),
        ("spacing", "sgm_uniform", "uniform-t"),
        ("spacing", "AYS", "align-your-steps"),
        ("spacing", "FlowTime", "flow-time"),
        ("spacing", "flow", "flow-time"),
        ("SDE", "VPSDE", "vp"),
        ("SDE", "flow", "rectified-flow"),
        ("prediction", "epsilon", "noise"),
        ("prediction", "v_prediction", "v"),
        ("prediction", "x0", "data"),
    ],
)
def test_names_of_others_lead_to_ours(kind: str, name: str, meant: str) -> None:
    with pytest.raises(
        ValueError, match=rf"unknown {kind} {re.escape(repr(name))}; did you mean '{meant}'\? known: "
    ):
        MAKE[kind](name)


def test_gits_has_no_name_and_the_error_says_why() -> None:
    with pytest.raises(
        ValueError, match=r"did you mean gits\(denoiser, x, sde\) in Python, for it is fitted"
    ):
        sample(net(), "ddim", (2, 3), nfe=3, spacing="gits")


def test_an_option_that_is_needed_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("spacing 'joined' needs the option lam: joined:lam=...")):
        spacing_of("joined:noisy=karras,clean=beta")


def test_a_tuning_refuses_an_unknown_spacing() -> None:
    """As it refuses a solver, and does not go on with the others."""
    settings = Settings(samples=16, held_out=8, solvers=("ddim",), spacings=("karras", "karas"))
    with pytest.raises(ValueError, match="unknown spacing 'karas'; did you mean 'karras'"):
        tune(net().eval(), 2, (2,), settings=settings)


def test_aliases_are_not_names_and_lead_to_names() -> None:
    assert set(ALIASES) == set(REGISTRIES)
    for kind, aliases in ALIASES.items():
        for alias, name in aliases.items():
            assert alias == plain(alias)
            assert alias not in REGISTRIES[kind], alias
            assert " " in name or name.partition(":")[0] in REGISTRIES[kind], alias
            assert ":" not in name or MAKE[kind](name) is not None
