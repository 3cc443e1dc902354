"""Gradients through a run."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    VPSDE,
    Denoiser,
    Level,
    Plan,
    integrate,
    predict,
    sample,
)
from tests.problems import (
    MEAN,
    STD,
    TABLES,
    normal,
    spread,
)


@pytest.mark.parametrize("name", [*TABLES])
def test_gradients_of_a_run_are_the_gradients_of_its_formula(name: str) -> None:
    """By integrate, in the start and in a parameter of the network; what it ends with is linear in both."""
    plan = Plan.make(TABLES[name], EDM(0.1, 10.0), 6)
    z = [normal(2, seed=i) for i in range(40)]
    start, mean = normal(2).requires_grad_(), torch.tensor(MEAN, dtype=torch.float64, requires_grad=True)

    def network(x: Any, level: Level[float], mean: Any = MEAN) -> Any:
        var = (level.alpha * STD) ** 2 + level.sigma**2
        return STD**2 * level.alpha / var * x + level.sigma**2 * mean / var

    end = integrate(plan, lambda x, level: network(x, level, mean), start, z.__getitem__)
    slope, by_mean = torch.autograd.grad(end.sum(), (start, mean))
    none = [0.0] * 40
    by_hand = [
        integrate(plan, lambda x, level, m=m: network(x, level, m), x, none.__getitem__)
        for x, m in ((1.0, 0.0), (0.0, 1.0))
    ]
    # Sums of numbers of up to 100.
    assert slope.tolist() == pytest.approx([by_hand[0]] * 2, abs=1e-11)
    assert by_mean.item() == pytest.approx(2 * by_hand[1], abs=1e-11)


def test_gradients_find_the_closed_form_of_gaussian_data() -> None:
    """x_end = alpha m + S_end / S_start (x - alpha m) on the exact path, S the deviation at a level."""
    denoiser = Denoiser(Affine(), VPSDE(), predict.data)
    plan = Plan.make(TABLES["dpmpp-3m"], VPSDE(), 320)
    x = normal(4).requires_grad_()
    integrate(plan, denoiser, x).sum().backward()
    ratio = spread(plan.end) / spread(plan.start)
    # The method's error at 320 steps.
    assert x.grad.tolist() == pytest.approx([ratio] * 4, rel=1e-4)  # type: ignore[union-attr]
    expected = 4 * (plan.end.alpha - ratio * plan.start.alpha)
    assert denoiser.net.mean.grad.item() == pytest.approx(expected, rel=1e-4)  # type: ignore[union-attr]
    with torch.no_grad():
        assert not sample(denoiser, plan, (4,), x=x, dtype=torch.float64).requires_grad


class Affine(torch.nn.Module):
    """The denoiser of N(m, STD^2) under VPSDE, m a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(MEAN, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        level = VPSDE().level(t)
        var = (level.alpha * STD) ** 2 + level.sigma**2
        return STD**2 * level.alpha / var * x + level.sigma**2 * self.mean / var
