"""The order of solvers on guidance in an interval: kept with smooth ends, 1 with hard ends."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from scoresde import Guided, Plan, UniformLambda, integrate
from scoresde.conditioning import Interval
from tests.conditioning.guided_networks import SHORT, of_class, of_prior
from tests.problems import TABLES

LOW, HIGH, WEIGHT = 0.31, 2.3, 3.0
X = SHORT.t_max * torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def end(
    name: str, steps: int, weight: object, x: Tensor = X, ends: tuple[float, float] = (0.0, 1e9)
) -> Tensor:
    """The end of a run in equal steps of lambda, from one sigma / alpha to another."""
    low, high = (-math.log(s) if s else math.inf for s in ends)
    plan = Plan.make(TABLES[name], SHORT.clip(high, low), steps, UniformLambda())
    with torch.no_grad():
        return integrate(plan, Guided(of_class(), of_prior(), weight), x)  # type: ignore[arg-type]


def order(name: str, weight: object, exact: Tensor, numbers: Sequence[int] = (80,)) -> float:
    """From each of these numbers of steps to four times as many: of the mean error."""
    errors = [
        sum((end(name, times * steps, weight) - exact).abs().mean().item() for steps in numbers)
        for times in (1, 4)
    ]
    return math.log2(errors[0] / errors[1]) / 2


@pytest.fixture(scope="module")
def smooth() -> Tensor:
    return end("rk4", 400, Interval(WEIGHT, LOW, HIGH, 0.15))


@pytest.fixture(scope="module")
def hard() -> Tensor:
    """Three runs, each with one weight, from end to end of the interval."""
    x = X
    for weight, ends in ((1.0, (HIGH, 1e9)), (WEIGHT, (LOW, HIGH)), (1.0, (0.0, LOW))):
        x = end("rk4", 150, weight, x, ends)
    return x


@pytest.mark.parametrize("name", ["dpmpp-3m", "adams"])
def test_smooth_ends_keep_order_3(name: str, smooth: Tensor) -> None:
    assert order(name, Interval(WEIGHT, LOW, HIGH, 0.15), smooth) > 2.8


@pytest.mark.parametrize("name", ["dpmpp-2m", "heun"])
def test_smooth_ends_keep_order_2(name: str, smooth: Tensor) -> None:
    assert order(name, Interval(WEIGHT, LOW, HIGH, 0.15), smooth) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-3m", "adams", "heun"])
def test_hard_ends_cost_the_order(name: str, hard: Tensor) -> None:
    """The error depends on where an end falls between two levels, so it is a mean over numbers of steps."""
    found = order(name, Interval(WEIGHT, LOW, HIGH), hard, range(60, 100, 3))
    assert found == pytest.approx(1, abs=0.15)


def test_a_narrow_edge_is_near_the_hard_end(hard: Tensor) -> None:
    """The two limits differ by a number of order edge^2: the logistic function is odd around its middle."""
    gaps = [
        (end("rk4", 400, Interval(WEIGHT, LOW, HIGH, edge)) - hard).abs().mean().item() for edge in (0.1, 0.2)
    ]
    assert math.log2(gaps[1] / gaps[0]) == pytest.approx(2, abs=0.3)
