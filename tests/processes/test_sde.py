"""Levels, drifts and diffusions of the processes against closed forms, other libraries and each other."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde.processes.continuous import VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import BETAS, DiscreteVPSDE
from scoresde.processes.sde import SDE
from tests.processes.families import (
    EPS,
    EPS32,
    FAMILIES,
    close,
    discrete,
    every_default,
    every_family,
    inside,
    slope,
    times_of,
    vp,
)


@every_family
@given(data=st.data())
def test_lam_strictly_falls_over_all_of_the_time(family, data):
    sde = data.draw(FAMILIES[family])
    even, log = times_of(sde, 200).clamp(sde.t_min, sde.t_max).chunk(2)
    for t in (even, log.unique()):
        assert (sde.lam(t).diff() < 0).all()


@every_family
@given(data=st.data())
def test_a_level_is_consistent_and_its_ends_are_finite(family, data):
    sde = data.draw(FAMILIES[family])
    level = sde.level(times_of(sde).clamp(sde.t_min, sde.t_max))
    finite = level.alpha > 0  # alpha = 0 only at the end of the rectified flow
    close(level.lam[finite], torch.log(level.alpha / level.sigma)[finite], rtol=1e-12, atol=1e-12)
    close(level.lam, sde.lam(level.t), rtol=0)
    close(level.alpha, sde.alpha(level.t), rtol=0)
    close(level.sigma, sde.sigma(level.t), rtol=0)
    assert torch.isfinite(level.sigma).all()
    assert (level.sigma > 0).all()
    assert torch.isfinite(level.lam[finite]).all()
    if not (isinstance(sde, RectifiedFlow) and sde.t_max == 1):
        assert finite.all()


def test_rectified_flow_has_no_data_left_at_1():
    level = RectifiedFlow().level(torch.tensor(1.0, dtype=torch.float64))
    assert [number.item() for number in level] == [1.0, 0.0, 1.0, -math.inf]
    assert RectifiedFlow().time_of(level.lam).item() == 1.0
    assert SDE.time_of(RectifiedFlow(), level.lam).item() == 1.0


@every_family
@given(data=st.data())
def test_time_of_inverts_lam_in_closed_form_and_by_bisection(family, data):
    sde = data.draw(FAMILIES[family])
    t = inside(sde)
    lam = sde.lam(t)
    # Conditioning: lam is known to a few roundings of it and of the logarithms that it is the difference of,
    # which dt / dlam carries over to t; t itself is rounded.
    known = 1 + sde.log_alpha(t).abs() + sde.log_sigma(t).abs()
    bound = 16 * EPS * (t + known / slope(sde.lam, t).abs())
    for inverse in (sde.time_of, lambda lam: SDE.time_of(sde, lam)):
        assert ((inverse(lam) - t).abs() <= bound).all()


@every_family
@given(data=st.data())
def test_float32_agrees_with_float64_within_its_conditioning(family, data):
    sde = data.draw(FAMILIES[family])
    t = inside(sde).float()
    t = t[t < 1] if isinstance(sde, Cosine | RectifiedFlow) else t  # poles, that rounding may reach
    exact, single = sde.level(t.double()), sde.level(t)
    assert all(number.dtype == torch.float32 for number in single)
    # A few roundings: of t, carried over by the derivatives, and of the logarithms.
    known = 1 + sde.log_alpha(t.double()).abs() + sde.log_sigma(t.double()).abs()
    rates = slope(sde.log_alpha, t.double()).abs() + slope(sde.log_sigma, t.double()).abs()
    bound = 8 * EPS32 * (known + t.double() * rates)
    assert ((single.lam.double() - exact.lam).abs() <= bound).all()
    assert ((single.alpha.double() / exact.alpha).log().abs() <= bound).all()
    assert ((single.sigma.double() / exact.sigma).log().abs() <= bound).all()


# ------------------------------------------------------------------------------------- f and g^2


@every_family
@given(data=st.data())
def test_drift_and_diffusion_move_alpha_and_sigma(family, data):
    """d alpha / dt = f alpha, and d sigma^2 / dt = 2 f sigma^2 + g^2: the moments of a linear SDE."""
    sde = data.draw(FAMILIES[family])
    t = inside(sde)
    alpha, sigma, f, g2 = sde.alpha(t), sde.sigma(t), sde.drift(t), sde.diffusion2(t)
    # Both sides are short sums of exact derivatives; what cancels is bounded by the largest term.
    close(slope(sde.alpha, t), f * alpha, atol=1e-300)
    change = slope(lambda t: sde.sigma(t) ** 2, t)
    terms = (2 * f * sigma**2).abs() + g2
    assert ((change - 2 * f * sigma**2 - g2).abs() <= 1e-12 * terms).all()
    assert (g2 >= 0).all()


def beta(sde, t):
    return sde.beta_min + t * (sde.beta_max - sde.beta_min)


@given(vp(VPSDE))
def test_vp_has_drift_half_beta_diffusion_beta_and_unit_variance(sde):
    t = inside(sde)
    integral = sde.beta_min * t + (sde.beta_max - sde.beta_min) * t**2 / 2
    close(sde.drift(t), -beta(sde, t) / 2)
    close(sde.diffusion2(t), beta(sde, t))
    close(sde.alpha(t), torch.exp(-integral / 2))
    close(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, torch.ones_like(t))


@pytest.mark.parametrize("sde", [VPSDE(), SubVPSDE()], ids=["vp", "sub-vp"])
def test_vp_by_default_has_the_betas_of_song(sde):
    """beta from 0.1 to 20: log alpha at t = 1 is -(0.1 + 20) / 4, at t = 1/2 -(0.1 / 4 + 19.9 / 16)."""
    times = torch.tensor([1.0, 0.5], dtype=torch.float64)
    expected = torch.tensor([-5.025, -1.26875], dtype=torch.float64)
    assert torch.allclose(sde.log_alpha(times), expected, rtol=1e-14, atol=0)
    assert sde.alpha(times)[0].item() == pytest.approx(0.006571586, rel=1e-6)
    assert (sde.t_min, sde.t_max) == (1e-3, 1.0)


@given(vp(SubVPSDE))
def test_sub_vp_has_the_drift_of_vp_and_less_diffusion(sde):
    t = inside(sde)
    alpha = sde.alpha(t)
    close(alpha, VPSDE(sde.beta_min, sde.beta_max, sde.t_min, sde.t_max).alpha(t), rtol=0)
    # 1 - alpha^2 and 1 - alpha^4 written without cancellation, for alpha is near 1 at small t.
    log_alpha = sde.log_alpha(t)
    close(sde.sigma(t), -torch.expm1(2 * log_alpha))
    close(sde.drift(t), -beta(sde, t) / 2)
    close(sde.diffusion2(t), -beta(sde, t) * torch.expm1(4 * log_alpha))


@given(FAMILIES["ve"])
def test_ve_has_no_drift_and_a_geometric_deviation(sde):
    t = inside(sde)
    ratio = sde.sigma_max / sde.sigma_min
    assert torch.equal(sde.alpha(t), torch.ones_like(t))
    assert torch.equal(sde.drift(t), torch.zeros_like(t))
    close(sde.sigma(t), sde.sigma_min * ratio**t)
    close(sde.diffusion2(t), 2 * sde.sigma(t) ** 2 * math.log(ratio))


@given(FAMILIES["cosine"])
def test_cosine_is_a_quarter_of_a_circle(sde):
    t = inside(sde)
    angle = t * math.pi / 2
    # Near t = 1 the rounding of the angle weighs as 1 / cos.
    rtol = 1e-11 + 4 * EPS / math.cos(angle.max().item())
    close(sde.alpha(t), angle.cos(), rtol)
    close(sde.sigma(t), angle.sin())
    close(sde.drift(t), -angle.tan() * math.pi / 2, rtol)
    close(sde.diffusion2(t), angle.tan() * math.pi, rtol)


@given(FAMILIES["edm"])
def test_edm_has_its_time_for_deviation(sde):
    t = inside(sde)
    assert torch.equal(sde.alpha(t), torch.ones_like(t))
    assert torch.equal(sde.drift(t), torch.zeros_like(t))
    close(sde.sigma(t), t)
    close(sde.diffusion2(t), 2 * t)


@given(FAMILIES["rectified-flow"])
def test_rectified_flow_is_a_straight_line(sde):
    t = inside(sde)
    close(sde.alpha(t), 1 - t)
    close(sde.sigma(t), t)
    close(sde.drift(t), -1 / (1 - t))
    close(sde.diffusion2(t), 2 * t / (1 - t))


@given(discrete("linear") | discrete("scaled-linear") | discrete("cosine"))
def test_ddpm_is_vp_with_a_constant_beta_within_each_step(sde):
    betas = BETAS[sde.schedule](sde.beta_min, sde.beta_max, sde.steps)
    middle = (torch.arange(1, sde.steps, dtype=torch.float64) + 0.5) / sde.steps
    rate = -sde.steps * torch.log1p(-betas[1:])  # of -2 log alpha
    # log alpha is a running sum over the steps: its differences are known to the rounding of the sum.
    atol = 4 * EPS * sde.steps * sde.log_alpha(torch.ones(1, dtype=torch.float64)).abs().item()
    close(sde.drift(middle), -rate / 2, atol=atol)
    close(sde.diffusion2(middle), rate, atol=2 * atol)
    close(sde.alpha(middle) ** 2 + sde.sigma(middle) ** 2, torch.ones_like(middle))


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [("linear", "linear"), ("scaled-linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")],
)
def test_ddpm_levels_are_the_levels_of_diffusers(schedule, theirs):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs)
    sde = DiscreteVPSDE(schedule=schedule)
    steps = torch.arange(1, 1001, dtype=torch.float64) / 1000
    # Their betas are float32: 1 - beta is known to half an EPS32 of 1, which is 1 / (1 - beta) times that of
    # itself, and these errors add up in the product. Multiplied out in float64, nothing else is rounded.
    kept = 1 - scheduler.betas.double()
    bound = (EPS32 / kept).cumsum(0) + 1e-12
    assert ((sde.alpha(steps) ** 2 / kept.cumprod(0)).log().abs() <= bound).all()
    # And as they use it, multiplied in float32: 1000 roundings more.
    assert ((sde.alpha(steps) ** 2 / scheduler.alphas_cumprod.double()).log().abs() <= 2 * bound).all()


@pytest.mark.parametrize("steps", [10, 1000, 4000])
def test_ddpm_labels_are_the_numbers_of_the_steps_in_float32(steps):
    sde = DiscreteVPSDE(t_min=1 / steps, steps=steps)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    assert sde.label(t).float().tolist() == list(range(steps))
    assert torch.tensor([sde.label(time) for time in t.tolist()]).tolist() == list(range(steps))


def test_ddpm_interpolates_log_alpha_and_labels_between_steps():
    sde = DiscreteVPSDE()
    t = torch.tensor([0.25, 0.2504, 0.251], dtype=torch.float64)
    before, between, after = sde.log_alpha(t).tolist()
    # Doubles near 0.25 times 1000 are known to 1e-13, of a step that changes log alpha by 1e-3.
    assert between == pytest.approx(0.6 * before + 0.4 * after, rel=1e-12)
    assert sde.label(t).tolist() == pytest.approx([249, 249.4, 250], abs=1e-10)


@every_default
def test_other_processes_give_the_network_their_time(sde):
    expected = 0.5 * sde.steps - 1 if isinstance(sde, DiscreteVPSDE) else 0.5
    assert sde.label(0.5) == expected
    assert sde.label(torch.tensor(0.5)).item() == expected


@every_default
def test_coefficients_are_the_same_under_no_grad_and_inference_mode_whichever_is_first(sde):
    fresh = replace(sde)  # a table that is made on first use must not be bound to the mode of that use
    t = inside(sde)
    with torch.inference_mode():
        first = fresh.drift(t.clone()), fresh.diffusion2(t.clone()), fresh.lam(t.clone())
    with torch.no_grad():
        second = fresh.drift(t), fresh.diffusion2(t), fresh.lam(t)
    for a, b, c in zip(first, second, (sde.drift(t), sde.diffusion2(t), sde.lam(t)), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)
        assert not c.requires_grad


# ------------------------------------------------------------------------------------- numbers of the host


@every_default
def test_levels_as_numbers_are_the_levels_as_tensors(sde):
    times = times_of(sde, 5).clamp(sde.t_min, sde.t_max)
    expected = torch.stack(sde.level(times), 1).tolist()
    levels = sde.levels(times)
    assert [list(level) for level in levels] == expected
    assert all(type(number) is float for level in levels for number in level)
    for t, level in zip(times.tolist(), levels, strict=True):
        # One number or many: some functions of torch round differently.
        assert sde.level_at(t) == pytest.approx(level, rel=4 * EPS, abs=4 * EPS)
        assert sde.lam_at(t) == pytest.approx(level.lam, rel=4 * EPS, abs=4 * EPS)


@every_default
def test_a_level_of_a_half_log_snr_has_it(sde):
    first, last = sde.lam_ends()
    assert (first, last) == (sde.lam_at(sde.t_max), sde.lam_at(sde.t_min))
    for part in (0.1, 0.5, 0.9):
        lam = first + part * (last - first)
        level = sde.level_of(lam)
        assert level.lam == pytest.approx(lam, rel=1e-10, abs=1e-10)  # time_of is an inverse
        assert level == sde.level_at(level.t)


def test_a_process_without_data_at_its_end_has_no_lambda_there():
    assert RectifiedFlow().lam_ends()[0] == -math.inf
    assert RectifiedFlow().level_at(1.0).alpha == 0
