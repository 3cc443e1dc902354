"""Faults in the samplers of other projects, each asserted with its cause, so that a repair shows."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from peer_methods import MULTI, NUMPY, SAME, SIGMA_MIN, UNIPC, Make, draws, made, start
from peers import Peer, azula, diffusers, k_diffusion

from scoresde import Karras, Level, Plan, RectifiedFlow, UniformLambda, integrate
from scoresde.plans.tape import Solver
from scoresde.solvers.adams import ExponentialAdams
from scoresde.solvers.dpmpp import DPMSolverPP
from scoresde.solvers.first_order import DDIM
from scoresde.spacings import Grid
from tests.problems import MEAN, SDES, gaussian, mixture, normal, reference, spread

# Faults, each with its cause. An order is that of the errors at 40 and 80 steps, equal in lambda.


def peer_order(peer: Peer, sde: str = "vp", steps: int = 40) -> float:
    x, exact = reference(sde)
    errors = [
        (peer(mixture, Grid.build(SDES[sde], n, UniformLambda()).levels, x[:, None], draws)[:, 0] - exact)
        .abs()
        .mean()
        .item()
        for n in (steps, 2 * steps)
    ]
    return math.log2(errors[0] / errors[1])


def as_peer(solver: Solver, sde: str = "vp") -> Peer:
    """Our solver, on the same levels."""

    def run(denoise: Any, levels: Any, x: torch.Tensor, noise: Any) -> torch.Tensor:
        return integrate(Plan.make(solver, SDES[sde], len(levels) - 1, UniformLambda()), denoise, x, noise)

    return run


def our_order(solver: Solver, sde: str = "vp", steps: int = 40) -> float:
    return peer_order(as_peer(solver, sde), sde, steps)


def law_of(peer: Peer, denoise: Any, levels: Any) -> tuple[float, float]:
    """The exact mean and deviation of a peer's end, for a denoiser linear in x.

    The state is a column of the coefficients of 1, of the noise at the start, and of every draw.
    """
    basis = torch.eye(2 + 2 * len(levels), dtype=torch.float64)[:, :, None]
    x = MEAN * levels[0].alpha * basis[0] + spread(levels[0]) * basis[1]
    end = peer(lambda x, level: denoise(x, level, basis[0]), levels, x, lambda i: basis[2 + i])
    return end[0].item(), end[1:].norm().item()


def peer_frechet(peer: Peer, steps: int) -> float:
    levels = Grid.build(SDES["vp"], steps, UniformLambda()).levels
    mean, std = law_of(peer, gaussian, levels)
    return math.hypot(mean - levels[-1].alpha * MEAN, std - spread(levels[-1]))


@pytest.mark.parametrize(
    "peer",
    [
        partial(k_diffusion, "sample_dpmpp_3m_sde", eta=0.0),
        partial(diffusers, MULTI, solver_order=3, **SIGMA_MIN),
    ],
    ids=["k-diffusion", "diffusers"],
)
def test_published_3m_has_order_2(peer: Make) -> None:
    """k-diffusion 0.1.1.post1 ``sample_dpmpp_3m_sde``, diffusers 0.42.1 ``DPMSolverMultistepScheduler``: the
    second difference D2 is half the second derivative, but its weight is that for the whole derivative."""
    assert peer_order(made(peer)) < 2.3
    assert our_order(DPMSolverPP(3, published=True)) < 2.3
    assert our_order(DPMSolverPP(3)) > 2.8


def test_third_order_sde_dpmpp_of_diffusers_has_order_1() -> None:
    """diffusers 0.42.1 ``multistep_dpm_solver_third_order_update``: (1 - e^-2h - 2h) / (2h)^2 - 1/2 on D2
    tends to -1 as h tends to 0; with + 1/2 it would tend to 0: a wrong sign."""
    options = {"algorithm_type": "sde-dpmsolver++", **SIGMA_MIN}
    errors = {
        order: [
            peer_frechet(made(partial(diffusers, MULTI, solver_order=order, **options)), n) for n in (40, 80)
        ]
        for order in (2, 3)
    }
    assert math.log2(errors[2][0] / errors[2][1]) > 1.8
    assert math.log2(errors[3][0] / errors[3][1]) < 1.2
    assert errors[3][1] > 10 * errors[2][1]
    ours = [peer_frechet(as_peer(DPMSolverPP(3, 1.0)), n) for n in (40, 80)]
    assert math.log2(ours[0] / ours[1]) > 1.8


def test_third_order_sde_dpm_solver_of_diffusers_crashes() -> None:
    """diffusers 0.42.1, the same function: no branch for ``sde-dpmsolver``."""
    options = {"algorithm_type": "sde-dpmsolver", "solver_order": 3, **SIGMA_MIN}
    theirs = made(partial(diffusers, MULTI, **options))
    levels = Grid.build(SDES["vp"], 5, UniformLambda()).levels
    with pytest.raises(UnboundLocalError):
        theirs(mixture, levels, start(levels[0]), draws)


def shipped(name: str, steps: int, **options: Any) -> torch.Tensor:
    """The end of a run of diffusers on its own grid, for data that is all 1."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, name)(prediction_type="sample", **options)
    scheduler.set_timesteps(steps)
    x = normal(2, 1, 4, 4).float()
    for t in scheduler.timesteps:
        x = scheduler.step(torch.ones_like(x), t, x).prev_sample
    return x


@NUMPY
@pytest.mark.parametrize(
    "options", [{"solver_type": "bh1"}, {"lower_order_final": False}, {"predict_x0": False}]
)
def test_unipc_of_diffusers_is_nan_at_its_default_end(options: dict[str, Any]) -> None:
    """diffusers 0.42.1 ``UniPCMultistepScheduler``: to sigma = 0, h and B = h are infinite, and the
    weight of the residual is infinity times 0. Only the first order step of bh2 on the data has a limit."""
    assert torch.isnan(shipped(UNIPC, 8, **options)).any()
    assert torch.isfinite(shipped(UNIPC, 8)).all()
    plan = Plan.make(ExponentialAdams(2, 3, two_point_rule="bh1"), SDES["vp"], 8, to_clean=True)
    assert torch.isfinite(integrate(plan, mixture, start(plan.start))).all()


@NUMPY
def test_karras_grid_of_diffusers_ends_with_an_empty_step() -> None:
    """diffusers 0.42.1 ``set_timesteps`` with ``sigma_min``: the grid ends at sigma_min, which is
    then appended once more: h = 0, and (exp(-h) - 1) / h is nan."""
    options = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "lower_order_final": False}
    assert torch.isfinite(shipped(MULTI, 20, **options)).all()
    assert torch.isnan(shipped(MULTI, 20, solver_type="heun", **options)).any()
    assert torch.isnan(shipped(MULTI, 20, solver_order=3, **options)).any()


@NUMPY
def test_exponential_grid_of_diffusers_gives_the_network_another_time() -> None:
    """diffusers 0.42.1: times of ``use_exponential_sigmas`` are cut to integers, by up to a step."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, MULTI)(use_exponential_sigmas=True)
    scheduler.set_timesteps(20)
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().log().numpy()
    exact = [scheduler._sigma_to_t(sigma.numpy(), ratios).item() for sigma in scheduler.sigmas[:-1]]
    assert max(t - other for t, other in zip(exact, scheduler.timesteps.tolist(), strict=True)) > 0.7


def test_deis_of_diffusers_loses_its_digits_in_small_steps() -> None:
    """diffusers 0.42.1 ``multistep_deis_third_order_update``: closed forms in log sigma, whose differences
    lose their digits in float32 in small steps: 6 of 1,000 steps are a hundred times worse than 6 of 12."""
    theirs = made(partial(diffusers, "DEISMultistepScheduler", solver_order=3, lower_order_final=False))
    wrong = []
    for n in (12, 1000):
        levels = Grid.build(SDES["vp"], n, UniformLambda()).levels[:7]
        x = start(levels[0])
        ends = [theirs(mixture, levels, x.to(dtype), draws) for dtype in (torch.float32, torch.float64)]
        wrong.append((ends[0] - ends[1]).abs().max().item())
    assert wrong[0] < 1e-5
    assert wrong[1] > 1e-3


def test_dynamic_thresholding_of_diffusers_clamps() -> None:
    """diffusers 0.42.1 ``_threshold_sample``: the percentile is clamped to ``sample_max_value``, 1 by
    default, so the sample is never divided."""
    module = pytest.importorskip("diffusers")
    x = 3 * normal(2, 1, 8, 8)
    torch.testing.assert_close(
        getattr(module, MULTI)(thresholding=True)._threshold_sample(x), x.clamp(-1, 1), rtol=0, atol=0
    )


def test_churn_of_diffusers_is_not_algorithm_2() -> None:
    """diffusers 0.42.1 ``EulerDiscreteScheduler.step``: noise is added after the network was called, so that
    the step takes the added noise for data. All data is 1, and the last step is to clean: anything else is
    error."""
    levels = Grid.build(SDES["edm"], 12, Karras(), to_clean=True).levels

    def point(x: torch.Tensor, level: Level[float], one: torch.Tensor) -> torch.Tensor:
        return one

    theirs = made(partial(diffusers, "EulerDiscreteScheduler", s_churn=4.0))
    assert law_of(theirs, point, levels)[1] > 1e-3
    right = made(partial(k_diffusion, "sample_euler", s_churn=4.0))
    assert law_of(right, point, levels) == pytest.approx((1.0, 0.0), abs=1e-12)


def test_laplace_schedule_of_diffusers_is_a_root() -> None:
    """diffusers 0.42.1 ``betas_for_alpha_bar``: "laplace" returns sqrt(snr / (1 + snr)), alpha, where the
    others return its square."""
    module = pytest.importorskip("diffusers.schedulers.scheduling_ddpm")
    n = 1000
    alpha_bar = (1 - module.betas_for_alpha_bar(n, alpha_transform_type="laplace").double()).cumprod(0)

    def snr(t: float) -> float:
        return math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6))

    squared = [snr((i + 1) / n) / (1 + snr((i + 1) / n)) * (1 + snr(0)) / snr(0) for i in range(n // 2)]
    # 500 products of betas rounded to float32
    torch.testing.assert_close(alpha_bar[: n // 2] ** 2, torch.tensor(squared).double(), rtol=1e-3, atol=0)


@NUMPY
def test_learned_variance_of_diffusers_is_for_three_channels() -> None:
    """diffusers 0.42.1 ``convert_model_output``: ``model_output[:, :3]``, for any number of channels."""
    module = pytest.importorskip("diffusers")
    scheduler = getattr(module, MULTI)(variance_type="learned")
    scheduler.set_timesteps(5)
    with pytest.raises(RuntimeError, match="size of tensor"):
        scheduler.step(torch.ones(1, 8, 2, 2), scheduler.timesteps[0], torch.ones(1, 4, 2, 2))


def test_ddim_of_diffusers_clips_by_default() -> None:
    """diffusers 0.42.1 ``DDIMScheduler``: ``clip_sample=True`` without a matching change of the noise. The
    mixture has values above 1."""
    levels = Grid.build(SDES["vp"], 12, Karras()).levels
    x = start(levels[0])
    plain, clipped = (
        made(partial(diffusers, "DDIMScheduler", **options))(mixture, levels, x, draws)
        for options in ({"clip_sample": False}, {})
    )
    assert (plain - clipped).abs().max() > 0.05


@pytest.mark.parametrize("name", ["sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde"])
def test_one_step_to_clean_crashes_in_k_diffusion(name: str) -> None:
    """k-diffusion 0.1.1.post1: the step to sigma = 0 does not set ``h``, which the next line reads."""
    theirs = made(partial(k_diffusion, name))
    levels = [Level(1.0, 1.0, 1.0, 0.0), Level(0.0, 1.0, 0.0, math.inf)]
    with pytest.raises(UnboundLocalError):
        theirs(mixture, levels, start(levels[0]), draws)


def test_adaptive_dpm_solver_of_k_diffusion_couples_its_batch() -> None:
    """k-diffusion 0.1.1.post1 ``dpm_solver_adaptive``: one norm over all samples, so that many easy samples
    hide the error of a hard one."""
    theirs = made(partial(k_diffusion, "sample_dpm_adaptive"))
    levels = [Level(10.0, 1.0, 10.0, -math.log(10.0)), Level(0.01, 1.0, 0.01, -math.log(0.01))]
    x = start(levels[0])
    together = theirs(mixture, levels, x, draws)
    alone = torch.cat([theirs(mixture, levels, one[None], lambda i: torch.zeros(1)) for one in x])
    assert (together - alone).abs().max() > 1e-3


@pytest.mark.parametrize("n", [2, 3])
def test_reab_of_azula_has_order_1(n: int) -> None:
    """azula 0.11.1 ``REABSampler``: sqrt(alpha_s^2 + sigma_t^2) before the integral; its docstring has
    sigma_s."""
    assert peer_order(made(partial(azula, "REABSampler", order=n))) < 1.2


def test_eta_of_azula_is_a_share_of_the_variance() -> None:
    """azula 0.11.1 ``DDIMSampler``: the variance has the share eta tau; in the paper eta^2 tau (eq. 16)."""
    sde = SDES["vp"]
    levels = Grid.build(sde, 12, Karras()).levels
    x = start(levels[0])
    theirs = made(partial(azula, "DDIMSampler", eta=0.5))(mixture, levels, x, draws)
    paper, root = (
        integrate(Plan.make(DDIM(eta), sde, 12, Karras()), mixture, x, draws) for eta in (0.5, 0.5**0.5)
    )
    torch.testing.assert_close(theirs, root, rtol=SAME, atol=SAME)
    assert (theirs - paper).abs().max() > 0.01


@pytest.mark.parametrize(
    "peer",
    [partial(azula, "xEABSampler", order=4), partial(k_diffusion, "sample_lms", order=4)],
    ids=["azula", "k-diffusion"],
)
def test_a_first_step_of_order_1_caps_the_order_at_2(peer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """azula 0.11.1, k-diffusion 0.1.1.post1: their multistep methods begin with Euler. A start in pure noise
    hides this, because the denoiser is nearly constant there; a start at sigma = alpha does not."""
    monkeypatch.setitem(SDES, "half", RectifiedFlow(1e-2, 0.5))
    reference.cache_clear()
    assert peer_order(made(peer), "half", 20) < 2.3
    assert our_order(ExponentialAdams(4), "half", 20) < 2.3
    assert our_order(ExponentialAdams(4, start="iterated"), "half", 20) > 3.7
