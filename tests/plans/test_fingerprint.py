"""The fingerprint of a denoiser, and what plans and tunings know by it."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scoresde import EDM, SOLVERS, VPSDE, Counted, Denoiser, Level, Plan, Transported, predict, sample, tune
from scoresde.plans.fingerprint import check_made_for, fingerprint, hash_of
from scoresde.pretrained import pretrained
from scoresde.sampling.tuned import SHIPPED
from scoresde.tuning import Settings
from tests.plans.test_calls import Counting, Held, nonlocally, weights
from tests.problems import Net


def scaled(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * x


def test_wrappers_hand_on_to_what_they_wrap() -> None:
    inner = Denoiser(Net(), EDM(), predict.v)
    counted = Counted(inner)
    counted.calls += 7
    assert fingerprint(counted) == fingerprint(inner)
    low = Denoiser(Net(), EDM(), predict.v, dtype=torch.bfloat16)
    assert fingerprint(Counted(Transported(low, VPSDE())))["dtype"] == "torch.bfloat16"
    compiled = partial(torch.compile, backend="eager")
    assert weights(compiled(Net())) == weights(nn.DataParallel(Net())) == weights(Net())
    assert weights(compiled(Net(0.4))) != weights(Net())
    assert weights(compiled(scaled)) == weights(scaled)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_without_a_stated_precision_has_that_of_its_parameters(dtype):
    assert fingerprint(Denoiser(nn.Linear(2, 2).to(dtype), EDM(), predict.v))["dtype"] == str(dtype)


PLAN = Plan.within(3, SOLVERS["ddim"], EDM())


def test_a_plan_knows_a_network_that_has_been_called() -> None:
    denoiser = Denoiser(Counting(), EDM(), predict.v)
    plan = replace(PLAN, about=fingerprint(denoiser))
    for of in (denoiser, Counted(denoiser)):
        for _ in range(2):
            sample(of, plan, (2, 2))  # a warning would be an error


def test_the_plans_that_ship_know_the_network_that_ships() -> None:
    denoiser = pretrained("mnist").denoiser
    files = sorted(SHIPPED.glob("tuned-*.json"))
    assert len(files) == 5
    for path in files:
        plan = Plan.load(path)
        assert plan.about is not None
        assert {key: plan.about[key] for key in fingerprint(denoiser)} == fingerprint(denoiser)
        check_made_for(plan, denoiser)
        check_made_for(plan, Counted(denoiser))
        with pytest.warns(UserWarning, match="another network"):
            check_made_for(plan, Denoiser(Net(), EDM(), predict.edm()))
        # A file of before says of its network what cannot be compared any more.
        check_made_for(replace(plan, about={**plan.about, "weights": "3aa9de7e54d84c76"}), denoiser)


def test_a_tuning_knows_its_teacher_again(tmp_path: Path) -> None:
    settings = Settings(
        samples=16, held_out=8, iterations=1, solvers=("ddim",), spacings=("karras",), starts=1
    )
    net = nonlocally()
    for _ in range(2):
        tune(Denoiser(net, EDM(), predict.v).eval(), 2, (2,), settings=settings, state=tmp_path)
        (tmp_path / "state-2.json").unlink()
    assert list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="another tuning"):
        tune(
            Denoiser(Held(np.float32(1)), EDM(), predict.v).eval(), 2, (2,), settings=settings, state=tmp_path
        )


def test_a_callable_with_an_sde_is_a_denoiser() -> None:
    """Its hash is that of any callable; what has no SDE is none, and a feature map needs none."""

    def denoise(x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        return x / 2

    with pytest.raises(TypeError, match="or like one with its sde, got function"):
        fingerprint(denoise)
    before = hash_of(denoise)
    denoise.sde = EDM()
    assert fingerprint(denoise) == {"weights": before, "sde": repr(EDM()), "dtype": "torch.float32"}
    assert hash_of(lambda x: x / 2) != hash_of(lambda x: x / 3)


def test_a_thing_that_cannot_be_hashed_is_warned_of_where_the_caller_is() -> None:
    def caller() -> str:
        return hash_of(Held(one for one in (1, 2)))

    with pytest.warns(UserWarning, match=r"does not cover objects of builtins\.generator") as warned:
        caller()
    assert warned[0].filename == __file__
