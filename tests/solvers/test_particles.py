"""Particles: resampling, twisted SMC against exact posteriors, and tilted laws against their closed form."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDM, SDE, VPSDE, Karras, Noise, Plan, RectifiedFlow, integrate, prepare, sample
from scoresde.conditioning.covariances import Gaussian, Isotropic, Jacobian
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.operators import Known, Matrix
from scoresde.denoisers.protocol import Counted, Foreign
from scoresde.processes import Level
from scoresde.solvers import SOLVERS
from scoresde.solvers.integrators.base import build_grid
from scoresde.solvers.integrators.particles import Groups
from scoresde.solvers.integrators.tilted import Tilted
from scoresde.solvers.integrators.twisted_smc import TwistedSMC

SDES: list[SDE] = [EDM(), VPSDE(), RectifiedFlow()]
WIDE = torch.tensor([[1.0, 0.3], [0.3, 0.25]], dtype=torch.float64)  # the covariance of the data


def normal(covariance: Tensor, sde: SDE) -> Foreign:
    """The exact denoiser of N(0, C): alpha C (alpha^2 C + sigma^2)^-1 x."""

    def denoise(x: Tensor, level: Level[Any], cond: Any = None) -> Tensor:
        c = covariance.to(x)
        return x @ torch.linalg.solve(
            level.alpha**2 * c + level.sigma**2 * torch.eye(len(c)).to(c), level.alpha * c
        )

    return Foreign(denoise, sde)


# ---------------------------------------------------------------------------------------- resampling


def groups_of(weights: Tensor, ess: float = 1.0) -> Groups:
    groups = Groups(torch.zeros(weights.numel()), weights.shape[1], ess)
    groups.weigh(weights.log().flatten())
    return groups


def test_a_particle_has_its_share_of_the_descendants() -> None:
    """For every u within one of P times its share, and on average over u exactly."""
    weights = torch.tensor(
        [[0.5, 3.0, 0.2, 1.3, 0.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0, 4.0]], dtype=torch.float64
    )
    shares, n = weights / weights.sum(1, keepdim=True), 4000
    total = torch.zeros(2, 6, dtype=torch.float64)
    for k in range(n):
        u = torch.full((12,), (k + 0.5) / n, dtype=torch.float64)
        rows = groups_of(weights).resample(torch.special.ndtri(u), always=True)
        counts = torch.stack([rows[:6].bincount(minlength=12)[:6], rows[6:].bincount(minlength=12)[6:]])
        assert ((counts - 6 * shares).abs() < 1 + 1e-12).all()
        total += counts
    torch.testing.assert_close(total / n, 6 * shares, rtol=0, atol=2 / n)  # a jump of a count lies at one u


def test_only_groups_below_their_share_are_resampled_and_keep_their_mean_weight() -> None:
    weights = torch.tensor([[1.0, 1.1, 0.9, 1.0], [8.0, 0.1, 0.1, 0.2]], dtype=torch.float64)
    groups = groups_of(weights, 0.5)
    rows = groups.resample(torch.zeros(8, 3))
    assert rows.tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    torch.testing.assert_close(groups.log_weights[0], weights[0].log())
    assert (groups.log_weights[1] == 0).all()
    assert groups.log_evidence.tolist() == [0.0, pytest.approx(math.log(8.4 / 4), rel=1e-14)]
    groups.resample(torch.zeros(8, 3), always=True)
    assert groups.log_evidence.exp().tolist() == pytest.approx(weights.mean(1).tolist(), rel=1e-14)
    cloud = groups.cloud(torch.zeros(8, 3))
    assert cloud.ancestors[1] == 1
    exact = (weights.sum(1) ** 2 / weights.square().sum(1)).tolist()
    assert cloud.effective[0].tolist() == pytest.approx(exact, rel=1e-14)


# --------------------------------------------------------------------------------------- twisted SMC


def test_with_nothing_observed_it_is_the_ancestral_sampler() -> None:
    """No weight changes, no group is resampled; to the roundings of other sums."""
    nothing = Observed(Known(torch.zeros(2)), torch.zeros(1, 0, dtype=torch.float64), 0.5)
    for sde in SDES:
        denoiser, grid = normal(WIDE, sde), build_grid(sde, None, 8)
        noise = Noise(3, torch.arange(6), (2,))
        x = grid.levels[0].sigma * noise(0).double()
        smc = TwistedSMC(nothing, particles=3)
        cloud = smc.carry_out(denoiser, x, lambda i, noise=noise: noise(i + 1).double(), grid)
        assert (cloud.ancestors == 3).all()
        torch.testing.assert_close(cloud.effective, torch.full_like(cloud.effective, 3.0))
        plan = Plan.make(SOLVERS["ancestral"], sde, 8)  # type: ignore[arg-type]
        again = integrate(plan, denoiser, x, lambda i, noise=noise: noise(2 * i + 2).double())
        torch.testing.assert_close(cloud.x, again, rtol=1e-10, atol=1e-12)


SEEN = torch.tensor([[0.8, -0.5]], dtype=torch.float64)
Y = torch.tensor([[2.0]], dtype=torch.float64)
TAU = 0.4


@pytest.mark.parametrize("covariance", [Gaussian(WIDE), Isotropic()], ids=["gaussian", "isotropic"])
def test_its_evidence_and_posterior_are_those_of_normal_data(covariance: Any) -> None:
    """The error of the evidence falls as 1 / steps; the mean and covariance are those of the posterior.

    32 groups of 64: the evidence of a group scatters by .02 to .08 nats, its mean by a sixth of that.
    """
    total = SEEN @ WIDE @ SEEN.mT + TAU**2 * torch.eye(1).double()
    exact = -0.5 * (Y @ torch.linalg.solve(total, Y.mT) + torch.logdet(2 * math.pi * total)).item()
    gain = WIDE @ SEEN.mT @ torch.linalg.inv(total)
    mean, rest = gain @ Y[0], WIDE - gain @ SEEN @ WIDE
    smc = TwistedSMC(Observed(Matrix(SEEN), Y, TAU), covariance, particles=64)
    errors, sde = [], EDM()
    noise = Noise(5, torch.arange(32 * 64), (2,))
    for steps in (50, 100, 200):
        x = sde.level_at(sde.t_max).sigma * noise(0).double()
        cloud = smc.carry_out(
            normal(WIDE, sde), x, lambda i: noise(i + 1).double(), build_grid(sde, Karras(), steps)
        )
        errors.append(cloud.log_evidence.mean().item() - exact)
    assert abs(errors[-1]) < 0.2
    for coarse, fine in pairwise(errors):
        assert 1.6 < coarse / fine < 2.5  # 2, and the scatter of the means
    # Samples of a group are dependent: some 32 * 40 count; four of their standard errors.
    assert ((cloud.x.mean(0) - mean).abs() < 4 * rest.diagonal().sqrt() / math.sqrt(1000)).all()
    torch.testing.assert_close(torch.cov(cloud.x.mT), rest, rtol=0, atol=0.08)


@pytest.mark.parametrize("sde", SDES, ids=repr)
def test_a_group_is_the_same_in_any_batch(sde: SDE) -> None:
    """Each with its own y, which travels in cond."""
    smc = TwistedSMC(Observed(Matrix(SEEN), None, TAU), Gaussian(WIDE), particles=4)
    y = torch.tensor([0.7, -0.2, 1.1])[:, None].repeat_interleave(4, 0)
    denoiser = normal(WIDE, sde)

    def draw(ids: Tensor, size: int | None = None) -> Tensor:
        return sample(
            denoiser, smc, (len(ids), 2), nfe=9, seed=2, ids=ids, cond=(None, y[ids]), batch_size=size
        )

    all_ids = torch.arange(12)
    x = draw(all_ids)
    assert torch.equal(draw(all_ids, 4), x)
    assert torch.equal(draw(all_ids, 8), x)
    some = torch.cat([all_ids[8:], all_ids[:4]])
    assert torch.equal(draw(some), x[some])
    with pytest.raises(ValueError, match=r"multiples of particles = 4, got 6"):
        draw(all_ids, 6)
    with pytest.raises(ValueError, match="the same y for all 4 particles of a group"):
        draw(all_ids[1:9])


@pytest.mark.parametrize("to_clean", [False, True])
def test_the_calls_are_those_of_its_budget(to_clean: bool) -> None:
    counted = Counted(normal(WIDE, EDM()))
    smc = TwistedSMC(Observed(Matrix(SEEN), Y, TAU), particles=2)
    run = prepare(smc, EDM(), 7, to_clean=to_clean)
    assert run.nfe == 7
    x = sample(counted, run, (4, 2), dtype=torch.float64)
    assert (counted.calls, counted.evaluations) == (7, 28)
    assert torch.isfinite(x).all()


# ----------------------------------------------------------------------------------------- tilted law


def two_normals(a: float, b: float, sde: SDE) -> Foreign:
    """N(0, a^2) for label 0, and N(0, b^2) without a class, label 1."""

    def denoise(x: Tensor, level: Level[Any], cond: Tensor) -> Tensor:
        c = torch.where(cond == 0, a * a, b * b).to(x)[:, None]
        return level.alpha * c / (level.alpha**2 * c + level.sigma**2) * x

    return Foreign(denoise, sde)


A, B, NONE = 0.5, 1.0, torch.tensor([1])


def deviation_of_many(weight: float, steps: int) -> float:
    """Of the tilted run with infinitely many particles: they stay normal, N(0, v).

    A weight exp(h x^2) turns 1 / v into 1 / v - 2 h; a step multiplies by a gain and adds noise.
    """
    grid = build_grid(EDM(), None, steps)
    v = grid.levels[0].sigma ** 2
    for t, s in grid.steps():
        d_c, d_u = (t.alpha * c / (t.alpha**2 * c + t.sigma**2) for c in (A * A, B * B))
        growth = (s.alpha / s.sigma) ** 2 - (t.alpha / t.sigma) ** 2
        v = 1 / (1 / v - weight * (weight - 1) * (d_c - d_u) ** 2 * growth)
        ratio = (s.sigma / t.sigma) ** 2
        v = (ratio + (1 - ratio) * (d_u + weight * (d_c - d_u))) ** 2 * v + s.sigma**2 * (1 - ratio)
    return math.sqrt(v)


@pytest.mark.parametrize("weight", [0.5, 2.0, 3.0])
def test_the_tilted_law_of_two_normals(weight: float) -> None:
    """Variance 1 / (w / a^2 + (1 - w) / b^2), to order 1 in the steps; guidance alone has another.

    4,096 samples in dependent groups tell a deviation to 2 %; twice that.
    """
    exact = (weight / A**2 + (1 - weight) / B**2) ** -0.5
    errors = [deviation_of_many(weight, steps) - exact for steps in (100, 200, 400)]
    assert all(1.9 < coarse / fine < 2.1 for coarse, fine in pairwise(errors))
    solver, cond = Tilted(NONE, weight), torch.zeros(4096).long()
    x = sample(two_normals(A, B, EDM()), solver, (4096, 1), nfe=200, cond=cond, dtype=torch.float64)
    assert x.std().item() == pytest.approx(deviation_of_many(weight, 100), rel=0.04)
    guided = A**weight * B ** (1 - weight)  # of the probability-flow ODE
    assert abs(guided - exact) > 0.1 * exact


def test_at_weight_1_no_weight_changes() -> None:
    sde = VPSDE()
    denoiser, ids = two_normals(0.5, 1.0, sde), torch.arange(8)
    x = sample(
        denoiser,
        Tilted(NONE, 1.0, particles=4),
        (8, 1),
        nfe=20,
        cond=torch.zeros(8).long(),
        dtype=torch.float64,
    )
    plan, noise = Plan.make(SOLVERS["ancestral"], sde, 10), Noise(0, ids, (1,))  # type: ignore[arg-type]
    begin = plan.start.sigma * noise(0).double()
    again = integrate(
        plan,
        lambda x, level: denoiser(x, level, torch.zeros(8).long()),
        begin,
        lambda i: noise(2 * i + 2).double(),
    )
    torch.testing.assert_close(x, again, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------ bad input


OBSERVED = Observed(Matrix(SEEN), Y, TAU)
WRONG: dict[str, tuple[Any, str]] = {
    "one particle": (lambda: TwistedSMC(OBSERVED, particles=1), "particles must be at least 2, got 1"),
    "an ess above 1": (lambda: TwistedSMC(OBSERVED, ess=1.5), r"ess must be in \[0, 1\], got 1.5"),
    "derivatives": (lambda: TwistedSMC(OBSERVED, Jacobian()), "no derivative of the network, got Jacobian"),
    "an infinite weight": (lambda: Tilted(NONE, math.inf), "weight must be finite, got inf"),
    "one tilted particle": (lambda: Tilted(NONE, 2.0, particles=1), "particles must be at least 2, got 1"),
    "no budget": (lambda: prepare(TwistedSMC(OBSERVED), EDM(), None), "nfe must be a number"),
    "a budget for the end only": (lambda: prepare(TwistedSMC(OBSERVED), EDM(), 1), "nfe must be at least 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case: str) -> None:
    make, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        make()


def test_a_run_without_its_condition_is_refused_before_a_call() -> None:
    counted = Counted(normal(WIDE, EDM()))
    twisted = TwistedSMC(Observed(Matrix(SEEN), None, TAU), particles=2)
    for solver, words in (
        (Tilted(NONE, 2.0, particles=2), "cond must be given"),
        (twisted, "cond must be the pair"),
    ):
        with pytest.raises(ValueError, match=words):
            sample(counted, solver, (4, 2), nfe=6)
    assert counted.calls == 0
