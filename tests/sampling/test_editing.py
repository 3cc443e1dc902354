"""Editing: exact inversion, starts at a level, posteriors of noisy samples, repainting; by closed forms."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    SDE,
    VPSDE,
    Counted,
    Denoiser,
    ExactDenoiser,
    Karras,
    Level,
    Mixture,
    Noise,
    Plan,
    RectifiedFlow,
    UniformLambda,
    guided,
    prepare,
)
from scoresde.denoisers.protocol import Foreign
from scoresde.sampling.editing import decode, denoised, encode, noised, redrawn, repainted, up_to
from scoresde.solvers.integrators.inversion import decoding, encoding
from scoresde.spacings import AtSigmas, Grid
from tests.problems import MEAN, STD, Net, gaussian, law, normal

SDES: list[SDE] = [EDM(0.02, 20.0), VPSDE(), RectifiedFlow(0.02, 0.95)]

MODES = Mixture(
    torch.tensor([[-1.0, -0.6], [-0.2, 0.9], [0.9, 0.0]], dtype=torch.float64),
    torch.tensor([0.15, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64),
)


def normal_denoiser(sde: SDE) -> Foreign:
    """The exact denoiser of N(m, STD^2) in each number, m the condition or MEAN."""

    def denoise(x: Tensor, level: Level[Any], cond: Any = None) -> Tensor:
        mean = MEAN if cond is None else cond.to(x).reshape(-1, *[1] * (x.ndim - 1))
        return gaussian(x - level.alpha * mean, level) + mean - gaussian(torch.zeros_like(x), level)

    return Foreign(denoise, sde)


def widening(grid: Grid) -> float:
    """By how much the exact flow widens N(m, STD^2) in y = x / alpha, from the last level to the first."""
    first, last = (math.hypot(STD, level.sigma / level.alpha) for level in (grid.levels[0], grid.levels[-1]))
    return first / last


# ---------------------------------------------------------------------------------------- inversion


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_the_local_error_of_a_step_is_of_order_three(ratio: float) -> None:
    def error(h: float) -> float:
        rhos = torch.tensor([1 + h * (1 + ratio), 1 + h, 1.0], dtype=torch.float64)
        grid = Grid.build(EDM(0.01, 10.0), 2, AtSigmas(tuple(rhos.tolist())))
        exact = MEAN + 0.8 * (STD**2 + rhos**2).sqrt()
        end = decoding(grid).integrate(gaussian, exact[[1, 0]][None], None)
        return abs(float(end[0] - exact[2]))

    assert math.log2(error(0.02) / error(0.01)) == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("sde", SDES)
def test_an_encoding_converges_to_the_flow_with_order_two(sde: SDE) -> None:
    x = normal(8, 3)
    errors = []
    for steps in (200, 400):
        grid = Grid.build(sde, steps, Karras())
        y = x / grid.levels[-1].alpha
        exact = MEAN + (y - MEAN) * widening(grid)
        latent = encode(normal_denoiser(sde), grid, x, dtype=torch.float64)
        errors.append(((latent[:, 1] - exact) / widening(grid)).abs().max().item())
    assert errors[0] < 0.02
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("spacing", [Karras(), UniformLambda()])
@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_round_trip_gives_the_samples_back(sde: SDE, spacing: Any, dtype: torch.dtype, most: float) -> None:
    x, denoiser = MODES.sample(50), Counted(ExactDenoiser(MODES, sde))
    for steps in (2, 20, 100):
        grid = Grid.build(sde, steps, spacing)
        before = denoiser.calls
        latent = encode(denoiser, grid, x, dtype=dtype)
        assert denoiser.calls - before == steps == encoding(grid).nfe
        back = decode(denoiser, grid, latent, dtype=dtype)
        assert denoiser.calls - before == 2 * steps - 1 == steps + decoding(grid).nfe
        assert latent.dtype == back.dtype == dtype
        assert (back - x.to(dtype)).abs().max() <= most


def test_a_round_trip_needs_no_right_denoiser_and_keeps_guidance() -> None:
    """The map is undone by algebra, so an untrained network with guidance will do."""
    sde = VPSDE()
    denoiser = guided(Denoiser(Net(), sde, "noise"), torch.zeros(1), 3.0)
    x, cond, grid = normal(6, 2, 3), torch.arange(6.0), Grid.build(sde, 30, Karras())
    latent = encode(denoiser, grid, x, cond=cond, dtype=torch.float64)
    back = decode(denoiser, grid, latent, cond=cond, dtype=torch.float64)
    assert (back - x).abs().max() <= 1e-12
    other = decode(denoiser, grid, latent, cond=cond + 1, dtype=torch.float64)
    assert (other - x).abs().min() > 1e-3


@pytest.mark.parametrize("sde", SDES)
def test_a_change_of_the_class_moves_normal_data_by_the_closed_form(sde: SDE) -> None:
    """From N(a, s^2) to N(b, s^2) the flow up and down adds (b - a) (1 - 1 / widening)."""
    grid = Grid.build(sde, 400, Karras())
    x, denoiser = 0.5 * normal(5, 3), normal_denoiser(sde)
    old, new = torch.full((5,), -1.0), torch.full((5,), 2.0)
    latent = encode(denoiser, grid, x, cond=old, dtype=torch.float64)
    changed = decode(denoiser, grid, latent, cond=new, dtype=torch.float64)
    expected = x / grid.levels[-1].alpha + 3 * (1 - 1 / widening(grid))
    # Discretisation: order two, 0.02 at 200 steps in the test above.
    assert (changed / grid.levels[-1].alpha - expected).abs().max() < 0.01


# --------------------------------------------------------------------------------- starts at a level


@pytest.mark.parametrize("sde", [*SDES, RectifiedFlow()])
@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_a_run_begins_at_the_wanted_sigma(sde: SDE, sigma: float) -> None:
    clipped = up_to(sde, sigma)
    for run in (prepare("auto", clipped, 10), prepare("ode", clipped, 10)):
        assert run.start.sigma / run.start.alpha == pytest.approx(sigma, rel=1e-9)
        assert run.end == sde.level_at(sde.t_min)


def test_noise_is_added_once_and_not_drawn_again() -> None:
    level, x, ids = VPSDE().level_of(0.3), normal(3, 2), torch.tensor([5, 2, 2**40])
    eps = Noise(7, ids, (2,))(0).double()
    assert torch.equal(noised(level, x, seed=7, ids=ids), level.alpha * x + level.sigma * eps)
    drawn: list[Tensor] = []

    def take(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        drawn.append(noise(0))
        return x

    run = replace(prepare("ode", up_to(VPSDE(), 1.0), 10), integrate=take)
    redrawn(normal_denoiser(VPSDE()), run, x, seed=7, ids=ids, dtype=torch.float64)
    assert torch.equal(drawn[0], Noise(7, ids, (2,))(1).double())


@pytest.mark.parametrize("sde", SDES)
@pytest.mark.parametrize("solver", ["dpmpp-2m-sde", "ancestral", "deis"])
def test_the_law_of_an_edit_of_normal_data(sde: SDE, solver: str) -> None:
    """From one x_0: x_t ~ N(alpha x_0, sigma^2), then p(x_0 | x_t), or for the flow one value of x_t."""
    sigma, x = 1.5, -1.2
    plan = prepare(solver, up_to(sde, sigma), 400, Karras(), to_clean=True)
    mean, deviation = law(plan, gaussian, plan.start.alpha * x, plan.start.sigma)
    gain = STD**2 / (STD**2 + sigma**2)
    if plan.stochastic:
        expected = MEAN + gain * (x - MEAN), math.hypot(gain * sigma, math.sqrt(gain) * sigma)
    else:
        expected = MEAN + math.sqrt(gain) * (x - MEAN), math.sqrt(gain) * sigma
    # Discretisation: ancestral is of weak order one, with 400 calls.
    assert (mean, deviation) == pytest.approx(expected, abs=0.01)


def test_edits_of_draws_of_the_data_are_draws_of_the_data() -> None:
    sde, n = EDM(0.002, 20.0), 4000
    x = MODES.sample(n)
    plan = prepare("dpmpp-2m-sde", up_to(sde, 0.7), 60)
    y = redrawn(ExactDenoiser(MODES, sde), plan, x, dtype=torch.float64)[:, 0]
    assert (y - x).square().mean() > 0.05
    mean, covariance = MODES.moments()
    # 4.5 standard errors of a mean and of a covariance, at most 1 / sqrt(n) each.
    assert (y.mean(0) - mean).abs().max() < 4.5 / math.sqrt(n)
    assert (y.mT.cov() - covariance).abs().max() < 4.5 / math.sqrt(n)


# ------------------------------------------------------------------------- posteriors of noisy samples


def sliced(a: Tensor, b: Tensor) -> float:
    """Sliced W2 of two sets of equal size in the plane, over 16 directions."""
    angles = torch.arange(16, dtype=torch.float64) * (math.pi / 16)
    directions = torch.stack([angles.cos(), angles.sin()])
    gaps = (a @ directions).sort(0).values - (b @ directions).sort(0).values
    return float(gaps.square().mean().sqrt())


@pytest.mark.parametrize("sde", SDES)
def test_draws_of_a_noisy_sample_follow_its_exact_posterior(sde: SDE) -> None:
    tau, n = 0.6, 2000
    sde = up_to(sde, tau)
    x = MODES.sample(4, seed=1)
    y = x + tau * normal(4, 2, seed=2)
    plan = prepare("dpmpp-2m-sde", sde, 100, to_clean=True)
    drawn = denoised(ExactDenoiser(MODES, sde), plan, y, draws=n, dtype=torch.float64)
    exact = MODES.condition(torch.eye(2, dtype=torch.float64), y, tau)
    truth, again = exact.sample(n, seed=3), exact.sample(n, seed=4)
    mean, covariance = exact.moments()
    for k in range(4):
        # The deviation of each number is below 0.9; 4.5 standard errors.
        assert (drawn[k].mean(0) - mean[k]).abs().max() < 4.5 * 0.9 / math.sqrt(n)
        assert (drawn[k].mT.cov() - covariance[k]).abs().max() < 4.5 * 0.9 / math.sqrt(n)
        # Two exact sets of this size are up to 0.05 apart.
        assert sliced(drawn[k], truth[k]) < max(0.08, 2 * sliced(again[k], truth[k]))


def test_intervals_of_the_posterior_cover_what_they_say() -> None:
    """Of 39 draws and the truth each order is as likely, so number 2 and 38 of the draws enclose 90 %."""
    sde, tau, n = EDM(0.002, 20.0), 0.5, 2000
    x = MODES.sample(n, seed=5)
    y = x + tau * normal(n, 2, seed=6)
    plan = prepare("dpmpp-2m-sde", up_to(sde, tau), 50)
    drawn = denoised(ExactDenoiser(MODES, sde), plan, y, draws=39, dtype=torch.float64)
    rank = (drawn < x[:, None]).sum(1)
    covered = ((rank >= 2) & (rank <= 37)).double().mean(0)
    assert ((covered > 0.87) & (covered < 0.93)).all(), covered


def test_the_law_of_draws_of_normal_data() -> None:
    tau, y = 0.8, 1.6
    plan = prepare("dpmpp-2m-sde", up_to(VPSDE(), tau), 300, Karras(), to_clean=True)
    gain = STD**2 / (STD**2 + tau**2)
    expected = MEAN + gain * (y - MEAN), math.sqrt(gain) * tau
    # Second order in the steps.
    assert law(plan, gaussian, plan.start.alpha * y, 0.0) == pytest.approx(expected, abs=1e-3)


# ----------------------------------------------------------------------------------------- repainting

MASK = torch.tensor([[1, 0, 1], [0, 1, 1]])


def test_what_is_kept_is_kept_to_the_last_bit_and_the_rest_is_drawn() -> None:
    """For N(m, I) the isotropic covariance is exact: what is drawn has the law N(m, 1), free of the rest."""
    sde, n, x = EDM(0.002, 20.0), 4000, normal(2, 2, 3).float()

    def denoise(x: Tensor, level: Level[Any], cond: Any = None) -> Tensor:
        return (level.alpha * x + level.sigma**2 * 0.3) / (level.alpha**2 + level.sigma**2)

    y = repainted(Foreign(denoise, sde), prepare("dpmpp-2m-sde", sde, 60), x, MASK, draws=n)
    kept = MASK.bool()
    assert torch.equal(y[:, :, kept], x[:, None, kept].expand(-1, n, -1))
    new = y[:, :, ~kept]
    # 4.5 standard errors; of the deviation too.
    assert (new.mean(1) - 0.3).abs().max() < 4.5 / math.sqrt(n)
    assert (new.std(1) - 1).abs().max() < 4.5 / math.sqrt(2 * n)


def test_what_is_drawn_fits_what_is_kept() -> None:
    """Of two numbers with correlation 0.9, the drawn one follows the kept one."""
    sde = EDM(0.002, 20.0)
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]])

    def denoise(x: Tensor, level: Level[Any], cond: Any = None) -> Tensor:
        return x @ torch.linalg.solve(covariance + level.sigma**2 * torch.eye(2), covariance)

    x = torch.tensor([[1.5, 0.0], [-1.5, 0.0]])
    run = prepare("dpmpp-2m-sde", sde, 60)
    y = repainted(Foreign(denoise, sde), run, x, torch.tensor([1, 0]), draws=500)
    means = y[:, :, 1].mean(1)
    # Exact are +-1.35; the isotropic covariance gives less.
    assert 0.9 < means[0] < 1.5
    assert -1.5 < means[1] < -0.9


# --------------------------------------------------------------------------------------------- batches


def acts(denoiser: Any, sde: SDE) -> dict[str, Any]:
    noisy, short = prepare("dpmpp-2m-sde", sde, 6), prepare("ancestral", up_to(sde, 1.0), 6)
    grid = Grid.build(sde, 6, Karras())

    def there_and_back(x: Tensor, *, ids: Any = None, cond: Tensor, **options: Any) -> Tensor:
        return decode(
            denoiser, grid, encode(denoiser, grid, x, cond=cond, **options), cond=cond + 1, **options
        )

    return {
        "redrawn": lambda x, **o: redrawn(denoiser, short, x, draws=3, seed=4, **o),
        "denoised": lambda x, **o: denoised(denoiser, short, x, draws=3, seed=4, **o),
        "repainted": lambda x, **o: repainted(denoiser, noisy, x, MASK, draws=3, seed=4, **o),
        "there and back": there_and_back,
    }


@pytest.mark.parametrize("act", ["redrawn", "denoised", "repainted", "there and back"])
def test_a_result_has_the_same_bits_in_any_batch(act: str) -> None:
    sde = VPSDE()
    edit = acts(Denoiser(Net(), sde, "noise"), sde)[act]
    x, cond, ids = normal(5, 2, 3).float(), torch.arange(5.0), torch.tensor([9, 0, 4, 2**31, 7])
    whole = edit(x, cond=cond, ids=ids)
    for size in (1, 2, 4):
        assert torch.equal(edit(x, cond=cond, ids=ids, batch_size=size), whole)
    some = torch.tensor([3, 1])
    assert torch.equal(edit(x[some], cond=cond[some], ids=ids[some]), whole[some])


def test_a_draw_is_the_same_for_any_number_of_draws() -> None:
    sde = VPSDE()
    x, run, denoiser = normal(3, 2), prepare("ancestral", up_to(sde, 1.0), 5), Denoiser(Net(), sde, "noise")
    assert torch.equal(denoised(denoiser, run, x, draws=4)[:, :2], denoised(denoiser, run, x, draws=2))
    many = redrawn(denoiser, run, x, draws=2)
    assert torch.equal(many[:, :1], redrawn(denoiser, run, x))
    assert (many[:, 0] - many[:, 1]).abs().min() > 1e-4


def test_no_two_draws_of_equal_samples_are_equal() -> None:
    sde = VPSDE()
    run = prepare("ancestral", up_to(sde, 1.0), 5)
    drawn = denoised(Denoiser(Net(), sde, "noise"), run, torch.ones(3, 2), draws=4)
    assert len(drawn.flatten().unique()) == drawn.numel()


# ------------------------------------------------------------------------------------------- bad input


def made(sde: SDE) -> tuple[Counted, Plan, Tensor]:
    run = prepare("ancestral", up_to(sde, 1.0), 4)
    assert isinstance(run, Plan)
    return Counted(normal_denoiser(sde)), run, normal(2, 2, 3)


BAD: dict[str, tuple[Any, str]] = {
    "sigma of 0": (
        lambda d, run, x: up_to(d.sde, 0.0),
        r"sigma must be above 0\.02 and at most 20, .*got 0.0",
    ),
    "sigma too large": (lambda d, run, x: up_to(d.sde, 21.0), "sigma must be .*got 21.0"),
    "sigma too small": (lambda d, run, x: up_to(d.sde, 0.02), "sigma must be .*got 0.02"),
    "sigma not a number": (lambda d, run, x: up_to(d.sde, math.nan), "sigma must be .*got nan"),
    "no draws": (lambda d, run, x: redrawn(d, run, x, draws=0), "draws must be at least 1, got 0"),
    "ids": (lambda d, run, x: redrawn(d, run, x, ids=torch.arange(3)), r"ids must be 2 integers.*\(3,\)"),
    "conditions": (
        lambda d, run, x: redrawn(d, run, x, cond=torch.ones(3), draws=2),
        "must hold 2 conditions",
    ),
    "no noise": (lambda d, run, x: denoised(d, prepare("deis", d.sde, 4), x), "run must be .*draws noise"),
    "all kept": (lambda d, run, x: repainted(d, run, x, torch.ones(2, 3)), "mask must be 0 where"),
    "grey mask": (lambda d, run, x: repainted(d, run, x, torch.full((2, 3), 0.5)), "mask must hold 0 and 1"),
    "other mask": (lambda d, run, x: repainted(d, run, x, torch.zeros(3, 3)), r"\(3, 3\)"),
    "one step": (lambda d, run, x: encode(d, Grid.build(d.sde, 1), x), "at least 2 steps"),
    "clean end": (
        lambda d, run, x: encode(d, Grid.build(d.sde, 3, to_clean=True), x),
        "alpha and sigma above 0",
    ),
    "no data": (
        lambda d, run, x: encode(normal_denoiser(RectifiedFlow()), Grid.build(RectifiedFlow(), 3), x),
        "alpha and sigma above 0 .* at t = 1; clip the SDE",
    ),
    "other process": (lambda d, run, x: encode(d, Grid.build(VPSDE(), 3), x), "process of the denoiser"),
    "no pairs": (
        lambda d, run, x: decode(d, Grid.build(d.sde, 3), x[:, :1]),
        r"latent must be pairs.*\(2, 1, 3\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_a_call(case: str) -> None:
    act, message = BAD[case]
    denoiser, run, x = made(EDM(0.02, 20.0))
    with pytest.raises(ValueError, match=message):
        act(denoiser, run, x)
    assert denoiser.calls == 0
