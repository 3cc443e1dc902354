"""A tuning beats the best stock solver, goes on where it was stopped, and refuses bad input first."""

import math

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, EXACT, FEW, SMALL, noises, same, tuned
from torch import nn

from scoresde import Plan, integrate, sample, tune
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm
from scoresde.solvers import DPMSolverPP
from scoresde.tuning import Settings
from scoresde.tuning.teacher import converged_teacher


@pytest.fixture(scope="module")
def whole():
    """One tuning for several tests."""
    return tuned()


def test_tuning_beats_the_best_stock_solver_and_states_by_how_much(whole):
    plan, report = whole
    assert report.tuned
    assert plan.nfe == report.nfe == 3
    assert report.log_rmse_ratio.high < 0
    assert report.log_rmse_ratio.value == pytest.approx(math.log(report.rmse.value / report.stock_rmse.value))
    x = noises(CLIPPED, 1000, 10_000, torch.float32)
    target = integrate(Plan.make(DPMSolverPP(3), CLIPPED, 100), EXACT, x)
    fresh = (integrate(plan, EXACT, x) - target).square().mean().sqrt().item()
    assert fresh < report.stock_rmse.low
    assert report.w2_bound[0] == pytest.approx(math.sqrt(3) * report.rmse.value, rel=1e-6)
    assert report.teacher.share < 0.05
    assert "returned" in str(report)


class Stopping:
    """The denoiser, which stops the tuning at one of its calls."""

    def __init__(self, after):
        self.sde, self.after = CLIPPED, after

    def __call__(self, x, level, cond=None):
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return EXACT(x, level)

    def __fingerprint__(self):
        return EXACT


def resumed(folder, after, nfe=3, **settings):
    """A tuning that is stopped after so many calls of the network, or not; and the calls that it took."""
    denoiser, chosen = Stopping(after), Settings(**SMALL | settings)
    try:
        made = tune(denoiser, nfe, (3,), settings=chosen, batch_size=256, state=folder)
    except KeyboardInterrupt:
        made = None
    return made, after - max(denoiser.after, 0)


def test_an_interrupted_tuning_resumes_to_the_same_bits(whole, tmp_path):
    """Interrupted when the teacher is there, and again in the fit; neither is computed again."""
    made, calls = resumed(tmp_path / "whole", 10**9)
    same(made, whole)
    path, teacher = (
        tmp_path / "state",
        2 + 3 * 32,
    )  # at least: two checks, a teacher of 32 calls and one of 64
    assert resumed(path, teacher + 150)[0] is None
    assert (path / "teacher.safetensors").exists()
    assert resumed(path, calls // 2)[0] is None
    made, rest = resumed(path, 10**9)
    assert rest < calls / 2
    same(made, whole)
    # Another budget has the same teacher, if it is accurate enough.
    (_, other), spent = resumed(path, 10**9, nfe=2)
    assert other.teacher.calls == whole[1].teacher.calls
    assert spent < resumed(None, 10**9, nfe=2)[1] - teacher
    with pytest.raises(ValueError, match="another tuning"):
        tuned(state=path, iterations=1)
    with pytest.raises(ValueError, match="another tuning"):
        tuned(nfe=4, state=path, samples=65)


def test_a_tuned_plan_is_printed_saved_loaded_and_run_to_the_same_bits(whole, tmp_path):
    plan, report = whole
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == plan
    assert again.about == plan.about == report.network | {"nfe": 3, "seed": 0, "tuned": True}
    assert str(again) == str(plan)
    assert str(plan).count("network(") == 3
    expected = sample(EXACT, plan, (4, 3))
    assert torch.equal(sample(EXACT, again, (4, 3)), expected)
    assert torch.equal(sample(EXACT, f"tuned:{tmp_path / 'plan.json'}", (4, 3)), expected)


def test_numbers_of_other_libraries_are_pythons_own(whole):
    made = tuned(nfe=np.int64(3), samples=np.int32(64), iterations=np.int64(2))
    same(made, whole)
    assert type(made[1].nfe) is int


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.drop = nn.Linear(3, 3), nn.Dropout(0.5)

    def forward(self, x, t):
        return self.drop(self.inner(x))


class Noisy(Small):
    def forward(self, x, t):
        return self.inner(x) + 0.01 * torch.randn_like(x)


@pytest.mark.parametrize(
    ("nfe", "kind", "pattern"),
    [
        (1, ValueError, "nfe must be at least 2, got 1"),
        (257, ValueError, "at most 256"),
        (2.5, TypeError, r"nfe must be an integer, got 2\.5"),
        (True, TypeError, "nfe must be an integer, got True"),
        (8, ValueError, "16 samples cannot decide"),
    ],
)
def test_a_budget_that_cannot_be_tuned_is_refused_before_anything_is_spent(nfe, kind, pattern):
    with pytest.raises(kind, match=pattern):
        tune(EXACT, nfe, (3,), settings=Settings(samples=16, held_out=64))


def test_a_network_that_is_no_function_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        tune(Denoiser(Small(), CLIPPED, edm()), 4, (3,))
    with pytest.raises(ValueError, match="dropout"):
        tune(Denoiser(Noisy().eval(), CLIPPED, edm()), 4, (3,))


@pytest.mark.parametrize(
    ("settings", "kind", "pattern"),
    [
        ({"samples": 1}, ValueError, "samples must be at least 2, got 1"),
        ({"samples": True}, TypeError, "samples must be an integer, got True"),
        ({"held_out": 10.5}, TypeError, r"held_out .*10\.5"),
        ({"window": -1}, ValueError, "window"),
        ({"bands": -1}, ValueError, "bands"),
        ({"starts": 0}, ValueError, "starts"),
        ({"iterations": -1}, ValueError, "iterations"),
        ({"gamma": float("nan")}, ValueError, "gamma"),
        ({"gamma": -0.1}, ValueError, "gamma"),
        ({"drop_above": 0.9}, ValueError, "drop_above must be at least 1, got 0.9"),
        ({"drop_above": float("nan")}, ValueError, "drop_above"),
        ({"groups": ("weights", "level")}, ValueError, "weights, scales, knots, first_step, got level"),
        ({"groups": ()}, ValueError, "got none"),
    ],
)
def test_bad_settings_are_refused_when_made(settings, kind, pattern):
    with pytest.raises(kind, match=pattern):
        Settings(**settings)


def test_the_teacher_is_checked_on_all_samples_of_the_fit():
    """Of 96, all but the first 64 need more calls than those."""

    def harder(x, level, cond):
        return EXACT(x, level) + 0.1 * (cond[:, None] >= 64) * math.sin(20 * level.lam)

    harder.sde = CLIPPED
    settings = Settings(samples=64, held_out=64, iterations=0, bands=0, **FEW)
    calls = [
        tune(harder, 3, (3,), cond=cond, settings=settings, batch_size=256)[1].teacher.calls
        for cond in (torch.zeros(160), torch.arange(160))
    ]
    assert calls[0] < calls[1]


def test_a_teacher_that_does_not_converge_is_an_error():
    def rough(x, level, cond=None):
        return torch.sin(1e4 * level.lam + x)

    x = noises(CLIPPED, 8)
    rough.sde = CLIPPED
    with pytest.raises(ValueError, match="does not converge"):
        converged_teacher(rough, x, None, 256, lambda pairs: 0.1, 8)
