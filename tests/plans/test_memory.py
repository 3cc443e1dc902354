"""The memory of a run: when a vector is read last, and how many there are at once."""

from collections import deque
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from scoresde import VPSDE, Plan, integrate, iterate, prepare
from scoresde.solvers import AnalyticalFirstStep, Churn, PredictorCorrector, UniC
from tests.problems import TABLES

# "auto" is another solver in long runs than in short ones.
ONE_SOLVER = [name for name in TABLES if name != "auto"]


@pytest.mark.parametrize("name", TABLES)
def test_a_vector_lives_from_its_making_to_its_last_use(name: str) -> None:
    """No line reads what was freed, and nothing is held longer than it is read."""
    plan = Plan.make(TABLES[name], VPSDE(), 12)
    last = {n: i for i, line in enumerate(plan.lines) for n in [line.name, *line.reads]}
    live = {"x0"}
    for i, line in enumerate(plan.lines):
        live |= {line.name} | set(line.draws)
        assert set(line.reads) <= live
        done = {n for n in live if last[n] == i}
        assert set(line.done) == (done if i < len(plan.lines) - 1 else done - {line.name})
        live -= set(line.done)
    assert live == {plan.lines[-1].name}


@pytest.mark.parametrize("name", ONE_SOLVER)
def test_the_number_of_live_vectors_does_not_grow_with_the_steps(name: str) -> None:
    def peak(steps: int) -> int:
        live, most = {"x0"}, 0
        for line in Plan.make(TABLES[name], VPSDE(), steps).lines:
            live |= {line.name, *line.reads}
            most = max(most, len(live))
            live -= set(line.done)
        return most

    assert peak(8) == peak(50) <= 12  # a state and what a step makes, and up to six outputs of the past


class Number:
    """A state of one number that knows how many of its kind there are."""

    alive = most = 0

    def __init__(self, value: float) -> None:
        self.value = value
        Number.alive += 1
        Number.most = max(Number.most, Number.alive)

    def __del__(self) -> None:
        Number.alive -= 1

    def __add__(self, other: "Number") -> "Number":
        return Number(self.value + other.value)

    def __rmul__(self, factor: float) -> "Number":
        return Number(factor * self.value)


@pytest.mark.parametrize("name", ONE_SOLVER)
def test_the_executor_holds_no_more_than_the_live_vectors(name: str) -> None:
    """Whatever the number of steps: memory is that of a few states, outputs and draws."""

    def peak(steps: int) -> int:
        plan = Plan.make(TABLES[name], VPSDE(), steps)
        Number.most = Number.alive
        before = Number.alive
        run = iterate(plan, lambda x, level: Number(0.5 * x.value), Number(1.0), lambda i: Number(0.1))
        deque(run, maxlen=0)  # to its end, keeping nothing
        assert Number.alive == before  # nothing outlives the run
        return Number.most - before

    assert peak(8) == peak(50) <= 15  # as above; a sum, a product, and the start that its caller holds


SIZE = 1000  # numbers of a state


class Tensors(TorchDispatchMode):
    """Notes the tensors of a state's size: the most alive at once, and how many there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: set[StorageWeakRef] = set()
        self.most = self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.alive = {there for there in self.alive if not there.expired()}
        if isinstance(result, Tensor) and result.numel() == SIZE:
            there = StorageWeakRef(result.untyped_storage())
            self.made += there not in self.alive
            self.alive.add(there)
            self.most = max(self.most, len(self.alive))
        return result


@pytest.mark.parametrize("name", ONE_SOLVER)
def test_memory_is_the_same_at_any_number_of_steps(name: str) -> None:
    """What a run allocates for itself, on a network and noise that allocate nothing."""

    def used(nfe: int) -> tuple[int, int]:
        plan = prepare(name, VPSDE(), nfe)
        assert isinstance(plan, Plan)
        x, answer = torch.ones(SIZE), torch.ones(SIZE)
        with torch.no_grad(), Tensors() as tensors:
            integrate(plan, lambda point, level: answer, x, lambda i: answer)
        return tensors.made, tensors.most

    few, many = used(24), used(120)
    assert few == many
    made, most = few
    assert 1 <= made <= 8  # a state, and the points and outputs that a step holds: no buffer is made twice
    assert most == made


# Solvers whose rows take every way through the buffers: those that ship, and what can be built of them.
SOLVERS = TABLES | {
    "measured": PredictorCorrector(measured=True),
    "measured twice": PredictorCorrector(predictor=TABLES["heun"], measured=True, corrections=2),
    "analytical": AnalyticalFirstStep(TABLES["dpmpp-3m"]),
    "unic of points": UniC(TABLES["dpm3"]),
    "churned": Churn(TABLES["heun"], 2.0),
}


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("name", SOLVERS)
def test_live_is_the_largest_number_of_tensors_that_are_alive(name: str, to_clean: bool) -> None:
    """Measured on a run whose network and noise return new tensors, as real ones do."""
    for steps in (2, 3, 9):
        plan = Plan.make(SOLVERS[name], VPSDE(), steps, to_clean=to_clean)
        x = torch.ones(1, SIZE)
        with torch.no_grad(), Tensors() as tensors:
            integrate(plan, lambda point, level: 0.5 * point, x, lambda i: torch.ones(1, SIZE))
        assert plan.live == tensors.most + 1  # and the start, which was there before
