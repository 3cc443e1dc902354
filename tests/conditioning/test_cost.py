"""Calls and products that are stated, against those that are counted."""

import pytest
import torch

from scoresde import EDM, SOLVERS, VPSDE, Counted, Denoiser, Plan, Transported, predict, prepare, sample
from scoresde.conditioning.cost import Cost, cost_at, cost_of
from scoresde.conditioning.covariances import Gaussian, Isotropic, Jacobian, ScoreForm
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.operators import Grey, Pool
from scoresde.conditioning.posterior import Posterior
from tests.problems import Net, normal

POOL = Observed(Pool(2), Pool(2).forward(normal(1, 3, 4, 4)), 0.1)
GREY = Observed(Grey(), Grey().forward(normal(1, 3, 4, 4)), 0.1)
GAUSSIAN = Gaussian(torch.eye(48), (3, 4, 4))
COVARIANCES = {Isotropic(): 0, GAUSSIAN: 0, Jacobian(1): 1, Jacobian(3): 3, ScoreForm(): 1}


@pytest.fixture
def products(monkeypatch):
    """The number of calls of autograd.grad so far."""
    counted, real = [], torch.autograd.grad

    def grad(*arguments, **options):
        counted.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    return counted


def network():
    return Denoiser(Net(), VPSDE(), predict.data, dtype=torch.float64)


@pytest.mark.parametrize(("covariance", "vjps"), COVARIANCES.items(), ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("solver", ["dpmpp-2m-sde", "heun", "restart"])
def test_the_cost_of_a_run_is_what_is_counted(covariance, vjps, solver, products):
    inner = Counted(network())
    posterior = Posterior(inner, POOL, covariance)
    plan = prepare(solver, VPSDE(), 9)
    assert isinstance(plan, Plan)
    assert cost_of(posterior, plan) == Cost(plan.nfe, vjps * plan.nfe)
    sample(posterior, plan, (2, 3, 4, 4), dtype=torch.float64)
    assert cost_of(posterior, plan) == (inner.calls, len(products))
    assert inner.evaluations == 2 * inner.calls


def test_a_plain_denoiser_costs_one_call():
    level = VPSDE().level_at(0.5)
    for denoiser in (network(), Counted(network()), Transported(network(), EDM())):
        assert cost_at(denoiser, level) == (1, 0)


def test_a_wrapper_without_a_cost_has_that_of_the_inside():
    level, posterior = VPSDE().level_at(0.5), Posterior(network(), POOL, Jacobian(2))
    assert cost_at(Counted(posterior), level) == cost_at(Transported(posterior, EDM()), level) == (1, 2)


def test_a_product_goes_backwards_through_each_product_inside(products):
    """Three products of the outside, each through one call and two products; two of the inside."""
    nested = Posterior(Posterior(network(), GREY, Jacobian(2)), POOL, Jacobian(3))
    assert nested.cost(VPSDE().level_at(0.5)) == (1, 2 + 3 * (1 + 2))
    with torch.no_grad():
        nested(normal(2, 3, 4, 4), VPSDE().level_at(0.5))
    assert len(products) == 2 + 3


def test_costs_add():
    assert Cost(1, 2) + Cost(3, 4) == Cost(4, 6)
    assert sum([Cost(1, 2)] * 3, Cost(0, 0)) == (3, 6)
    assert isinstance(Cost(1, 2) + Cost(1, 1), Cost)


def test_every_table_has_a_cost():
    posterior = Posterior(network(), POOL, Jacobian(2))
    for name in SOLVERS:
        plan = prepare(name, VPSDE(), 12)
        if isinstance(plan, Plan):
            assert cost_of(posterior, plan) == (plan.nfe, 2 * plan.nfe)
