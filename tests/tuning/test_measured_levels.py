"""Levels measured on a network: as good as with hindsight, within their cost; bad input is refused."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from small_tuning import EXACT, MIXTURE
from torch import nn

from scoresde import EDM, VPSDE, Denoiser, ExactDenoiser, Noise, RectifiedFlow, integrate, prepare
from scoresde.denoisers.protocol import Counted
from scoresde.spacings import AtShares, FlowTime, Measured
from scoresde.spacings.measured import ends_of
from scoresde.tuning import measured
from scoresde.tuning.race import COST, POWERS, score

FLOW = RectifiedFlow()


def errors_of(denoiser, solver, calls, spacing, n=1000):
    """The errors of n samples of other noises than the measurement's, over their spread."""
    sde = denoiser.sde
    x = sde.level_at(sde.t_max).sigma * Noise(1, torch.arange(n), (3,))(0).double()
    exact, made = (
        integrate(prepare(name, sde, nfe, at), denoiser, x)
        for name, nfe, at in (("velocity-p5c6", 300, FlowTime(2.0)), (solver, calls, spacing))
    )
    return ((made - exact).square().mean(1).sqrt() / exact.std(0).square().mean().sqrt()).numpy()


@pytest.fixture(scope="module", params=[VPSDE(), FLOW], ids=["vp", "flow"])
def case(request):
    """A denoiser, its measured levels, and the network evaluations that they took."""
    counted = Counted(ExactDenoiser(MIXTURE, request.param))
    levels = measured(counted, (3,), budgets=(5, 10), batch_size=512, dtype=torch.float64)
    return counted, levels, counted.evaluations


def test_it_costs_no_more_than_it_may(case):
    _, levels, evaluations = case
    assert evaluations <= 4000 + 2 * COST + 2 * 32  # the two calls that compare the network with itself
    assert levels.about["evaluations"] <= evaluations


@pytest.mark.parametrize("calls", [5, 10])
def test_it_is_about_the_best_power_with_hindsight(case, calls):
    """By the score of the race on other noises, within a quarter of the best of half of the powers.

    A few samples make the root mean square, so that 250 noises do not tell it.
    """
    denoiser, levels, _ = case
    mine = score(errors_of(denoiser, "auto", calls, levels))
    best = min(
        score(errors_of(denoiser, solver, calls, power))
        for solver, power in product(("velocity-p2c3", "velocity-p3c4"), list(POWERS.values())[::2])
    )
    assert mine < best + math.log(5 / 4)


def test_the_figures_that_it_reports_are_those_of_other_noises(case):
    """Within a factor of 2: the median of 100 log-normal errors varies by 20 %, and so does ours."""
    denoiser, levels, _ = case
    for calls in (5, 10):
        seen = levels.about["budgets"][str(calls)]
        found = np.median(errors_of(denoiser, "auto", calls, levels))
        assert seen["samples"] > 50
        assert found / 2 < seen["median"] < 2 * found


def test_it_is_a_function_of_the_network_and_the_seed():
    made = [
        measured(EXACT, (3,), budgets=(5,), seed=seed, batch_size=size, dtype=torch.float64)
        for seed, size in ((0, 512), (0, 512), (1, 512))
    ]
    assert made[0] == made[1]
    assert made[0].about == made[1].about
    assert made[0].about["budgets"] != made[2].about["budgets"]


def test_the_process_and_its_ends_are_those_of_the_denoiser(case):
    denoiser, levels, _ = case
    assert levels.process == type(denoiser.sde).__name__
    assert levels.ends == ends_of(denoiser.sde)
    assert [choice.calls for choice in levels.choices] == [5, 10]
    assert all(isinstance(choice.spacing, AtShares | FlowTime) for choice in levels.choices)
    with pytest.raises(ValueError, match="measured on"):
        levels(EDM(0.5, 2.0), 5)


def test_conditions_are_used_in_turn():
    """A denoiser that notes its conditions: noise i has condition i mod K in every call."""
    seen = []

    class Conditional:
        sde = EXACT.sde

        def __fingerprint__(self):
            return "conditional"

        def __call__(self, x, level, cond=None):
            seen.append(cond)
            return EXACT(x, level)

    measured(Conditional(), (3,), budgets=(5,), cond=torch.tensor([3, 1, 4]), batch_size=512)
    assert all(cond is not None for cond in seen)
    first = seen[0]
    assert first.tolist() == [3, 1, 4] * 10 + [3, 1]
    assert any(len(cond) != 32 and len(cond) % 3 != 0 for cond in seen)
    with_offset = next(cond for cond in seen if len(cond) != 32)
    assert set(with_offset.tolist()) == {1, 3, 4}


@pytest.mark.parametrize(
    ("budgets", "error", "message"),
    [
        ((), ValueError, "budgets must be"),
        ((1, 5), ValueError, "budgets must be at least 2"),
        ((5, 51), ValueError, "from 2 to 50"),
        ((5.5,), TypeError, "budgets must be an integer"),
    ],
)
def test_other_budgets_are_refused_before_a_call(budgets, error, message):
    counted = Counted(EXACT)
    with pytest.raises(error, match=message):
        measured(counted, (3,), budgets=budgets)
    assert counted.evaluations == 0


def test_a_network_in_training_mode_is_refused_before_a_call():
    class Net(nn.Linear):
        calls = 0

        def forward(self, x, t):
            self.calls += 1
            return super().forward(x)

    net = Net(3, 3)
    with pytest.raises(ValueError, match=r"in training mode; call its eval\(\) first"):
        measured(Denoiser(net.train(), EXACT.sde, "noise"), (3,))
    assert net.calls == 0


def test_a_random_network_and_one_that_is_not_finite_are_refused():
    class Random:
        sde = EXACT.sde

        def __call__(self, x, level, cond=None):
            return torch.randn_like(x)

    class Infinite:
        sde = EXACT.sde

        def __call__(self, x, level, cond=None):
            return x * (math.inf if level.t < 1 else 1.0)

    with pytest.raises(ValueError, match="two calls of the network with the same input differ"):
        measured(Random(), (3,))
    with pytest.raises(FloatingPointError, match="not finite"):
        measured(Infinite(), (3,))


def test_a_file_keeps_every_bit(case, tmp_path):
    _, levels, _ = case
    levels.save(tmp_path / "levels.json")
    again = Measured.load(tmp_path / "levels.json")
    assert again == levels
    assert again.about == levels.about
