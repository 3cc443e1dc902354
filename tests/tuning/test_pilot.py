"""The pilot's differences and densities against closed forms."""

import math

import numpy as np
import pytest
import torch
from small_tuning import CLIPPED, EXACT, noises

from scoresde import EDM, VPSDE, ExactDenoiser, Mixture, RectifiedFlow
from scoresde.denoisers.protocol import Counted, as_denoiser
from scoresde.spacings.measured import ends_of
from scoresde.tuning.pairs import Pairs, ends
from scoresde.tuning.pilot import COARSE, FINE, FIRST, ORDERS, Pilot, accurate_plan, run_pilot


class Polynomial:
    """A denoiser whose velocity eps - x_0 is a cubic polynomial of u = sigma / (alpha + sigma), by sample.

    eps = (x - alpha d) / sigma, so that eps - d = p gives d = (x - sigma p) / (alpha + sigma).
    """

    def __init__(self, sde, factors):
        self.sde, self.factors = sde, factors

    def __call__(self, x, level, cond=None):
        u = level.sigma / (level.alpha + level.sigma)
        p = self.factors * (1 - 2 * u + 5 * u**2 - 3 * u**3)
        return (x - level.sigma * p) / (level.alpha + level.sigma)


@pytest.mark.parametrize("sde", [CLIPPED, VPSDE(), RectifiedFlow()], ids=["edm", "vp", "flow"])
@pytest.mark.parametrize("batch_size", [7, 3])
def test_the_third_difference_of_a_cubic_is_its_leading_coefficient(sde, batch_size):
    """Rounding of eps, 1e-16 / 1e-3 at the clean end, over three distances of about 1e-3: 1e-4."""
    x = sde.level_at(sde.t_max).sigma * noises(sde, 7) / noises(sde, 7).std()
    factors = torch.linspace(-2, 3, 7, dtype=torch.float64)[:, None].expand(7, 3)
    pilot = run_pilot(as_denoiser(Polynomial(sde, factors[:batch_size])), Pairs(x[:batch_size], x), 7)
    size = 3 * factors[:batch_size].square().mean().sqrt().item()
    assert pilot.sizes[3] == pytest.approx(np.full(FINE - 3, size), rel=1e-4)
    assert (pilot.u[0], pilot.u[-1]) == pytest.approx(ends_of(sde), rel=1e-12)


def test_differences_of_batches_are_those_of_all_samples():
    x = noises(CLIPPED, 10)
    whole, parts = (run_pilot(as_denoiser(EXACT), Pairs(x, x), size) for size in (10, 3))
    torch.testing.assert_close(whole.pairs.target, parts.pairs.target, rtol=0, atol=1e-12)
    for order in ORDERS:
        assert whole.sizes[order] == pytest.approx(parts.sizes[order], rel=1e-6)


def flat(order, power, sde=CLIPPED, nodes=2000):
    """A pilot of many nodes, equal in log u, in which the difference of an order is u^power."""
    first, last = ends_of(sde)
    u = np.exp(np.linspace(math.log(first), math.log(last), nodes + 1))
    at = np.convolve(u[:-1], np.ones(order + 1) / (order + 1), "valid")
    none = torch.empty(0, 3)
    return Pilot(Pairs(none, none), u, {order: at**power})


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("power", [0.0, -1.0])
def test_levels_have_equal_errors(order, power):
    """|d^k m / du^k| h^(k + 1) is the same at all steps if u^(1 + power / (k + 1)) has equal steps.

    The tolerance is the smoothing over 9 of 2000 nodes, about 9 log(500) / 2000 of the density.
    """
    levels = flat(order, power).levels(order, 1e-6)(CLIPPED, 12)
    u = np.array([t / (1 + t) for t in levels.tolist()])
    exponent = 1 + power / (order + 1)
    steps = np.diff(u**exponent)
    assert steps == pytest.approx(np.full(12, steps.mean()), rel=0.03)


def test_a_floor_of_nearly_one_is_equal_steps_in_lambda():
    lams = CLIPPED.lam(flat(2, 0.0).levels(2, 0.9999)(CLIPPED, 9)).numpy()
    assert np.diff(lams) == pytest.approx(np.full(9, np.diff(lams).mean()), rel=1e-3)


def test_constant_velocity_has_levels_too():
    """A single point as data: all differences are 0, and the density is its floor everywhere."""
    point = ExactDenoiser(
        Mixture(torch.zeros(1, 3).double(), torch.full((1,), 1e-3).double(), torch.ones(1).double()), CLIPPED
    )
    x = noises(CLIPPED, 4)
    levels = run_pilot(as_denoiser(point), Pairs(x, x), 4).levels(2, 0.2)(CLIPPED, 8)
    assert (levels.diff() < 0).all()
    assert levels.isfinite().all()


@pytest.mark.parametrize("sde", [EDM(0.01, 50.0), VPSDE(), RectifiedFlow()], ids=["edm", "vp", "flow"])
def test_its_ends_are_exact_and_it_costs_what_it_says(sde):
    """100 calls on measured levels err by about 1e-5 of the spread here, 400 calls by less than 1e-7."""
    counted = Counted(ExactDenoiser(EXACT.mixture, sde))
    x = noises(sde, 8)
    pilot = run_pilot(counted, Pairs(x, x), 8)
    assert counted.evaluations == 8 * (COARSE + FINE)
    finer = ends(counted, accurate_plan(counted.sde, FIRST, 400), Pairs(x, x), 8)
    spread = finer.std(0).square().mean().sqrt()
    assert ((pilot.pairs.target - finer).square().mean().sqrt() / spread).item() < 1e-4
