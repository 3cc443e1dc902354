"""The loop that executes plans: its states, its draws, and what it leaves unchanged."""

from collections import Counter

import numpy as np
import pytest
import torch

from scoresde import EDM, VPSDE, Level, Plan, integrate, iterate
from tests.problems import STOCHASTIC, TABLES, gaussian, mixture, normal


@pytest.mark.parametrize("name", TABLES)
def test_every_draw_is_numbered_in_order_and_used_in_one_step(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 6)
    draws = [name for line in plan.lines for name in line.draws]
    assert list(dict.fromkeys(draws)) == [f"z{i}" for i in range(plan.draws)]
    assert plan.stochastic == (name in STOCHASTIC) == bool(draws)
    into = Counter(name for line in plan.lines if line.kind == "state" for name in line.draws)
    assert all(count == 1 for count in into.values())  # however many stages of its step share it


@pytest.mark.parametrize("name", TABLES)
def test_the_executor_changes_nothing_that_it_is_given(name: str) -> None:
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def remembered(value: torch.Tensor) -> torch.Tensor:
        given.append((value, value.clone()))
        return value

    def denoise(x: torch.Tensor, level: Level[float]) -> torch.Tensor:
        remembered(x)
        return remembered(mixture(x, level))

    states = [
        remembered(x)
        for x in iterate(plan, denoise, remembered(normal(7)), lambda i: remembered(normal(7, seed=i)))
    ]
    assert len(states) == sum(line.kind == "state" for line in plan.lines)
    assert all(torch.equal(value, copy) for value, copy in given)


@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_state_gets_the_same_result(name: str) -> None:
    plan = Plan.make(TABLES[name], EDM(), 6)
    noise = [float(z) for z in normal(20)]
    by_float = integrate(plan, gaussian, 1.3, lambda i: noise[i])
    one = torch.ones(1, dtype=torch.float64)
    by_tensor = integrate(plan, gaussian, 1.3 * one, lambda i: noise[i] * one)
    by_array = integrate(plan, gaussian, np.array([1.3]), lambda i: np.array([noise[i]]))
    # The same sums, save that a tensor's multiply-add may round once where the others round twice.
    assert by_tensor.item() == pytest.approx(by_float, rel=1e-12)
    assert by_array[0] == pytest.approx(by_float, rel=1e-12)


@pytest.mark.parametrize("name", TABLES)
def test_integrate_ends_with_the_last_state_of_iterate(name: str) -> None:
    """To the bit, in place or not; what the caller holds stays as it is."""
    for to_clean in (False, True):
        plan = Plan.make(TABLES[name], EDM(), 7, to_clean=to_clean)
        draws, x = [normal(5, seed=i) for i in range(40)], 80 * normal(5)
        copies, begin = [z.clone() for z in draws], x.clone()
        *_, expected = iterate(plan, mixture, x, draws.__getitem__)
        with_gradients = integrate(plan, mixture, x, draws.__getitem__)
        with torch.no_grad():
            in_place = integrate(plan, mixture, x, draws.__getitem__)
        assert torch.equal(expected, with_gradients)
        assert torch.equal(expected, in_place)
        assert torch.equal(x, begin)
        assert all(map(torch.equal, draws, copies))


@pytest.mark.parametrize("name", TABLES)
def test_a_network_that_returns_its_input_is_not_overwritten(name: str) -> None:
    """x and its estimate are then one tensor, which a step in place would spoil."""
    plan = Plan.make(TABLES[name], VPSDE(), 5)
    draws = [normal(5, seed=i) for i in range(40)]
    with torch.no_grad():
        same = integrate(plan, lambda x, level: x, normal(5), draws.__getitem__)
        copied = integrate(plan, lambda x, level: x.clone(), normal(5), draws.__getitem__)
    assert torch.equal(same, copied)


def test_a_plan_that_draws_noise_needs_noise() -> None:
    """An error at once, before the network is called; a deterministic plan needs none."""
    plan = Plan.make(TABLES["ancestral"], EDM(), 3)
    for run in (integrate, iterate):
        with pytest.raises(TypeError, match=r"noise must be a function .* this plan draws noise; got None"):
            run(plan, lambda x, level: 1 / 0, 1.0)
    assert integrate(Plan.make(TABLES["ddim"], EDM(), 3), lambda x, level: x, 2.0) == pytest.approx(2.0)
