"""Saved plans: the same to the last bit, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from scoresde import VPSDE, Plan, RectifiedFlow, integrate
from scoresde.solvers import PredictorCorrector
from tests.problems import TABLES, mixture, normal


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_saved_plan_is_the_same_plan(name: str, to_clean: bool, tmp_path: Path) -> None:
    plan = Plan.make(TABLES[name], RectifiedFlow() if name == "ddim" else VPSDE(), 7, to_clean=to_clean)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan  # every weight and level to the last bit
    noise = [normal(5, seed=i) for i in range(40)]
    runs = [integrate(p, mixture, normal(5, seed=99), lambda i: noise[i]) for p in (plan, loaded)]
    assert torch.equal(*runs)


def test_a_measured_plan_is_saved_too(tmp_path: Path) -> None:
    plan = Plan.make(PredictorCorrector(measured=True), VPSDE(), 3)
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "scoresde plan 1"
