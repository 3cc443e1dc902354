"""The processes: their marginals, drifts and times against closed forms, other libraries and each other."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from torch.distributions import Normal

from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import BETAS, DiscreteVPSDE
from scoresde.processes.sde import SDE

EPS = torch.finfo(torch.float64).eps
EPS32 = torch.finfo(torch.float32).eps


def decades(low, high):
    """10^x, x in [low, high]."""
    return st.floats(low, high).map(lambda x: 10.0**x)


def discrete(schedule):
    def make(steps, beta_min, more):
        return DiscreteVPSDE(
            beta_min=beta_min, beta_max=beta_min + more, t_min=1 / steps, schedule=schedule, steps=steps
        )

    return st.builds(make, st.sampled_from([2, 10, 49, 1000]), decades(-5, -3), st.floats(1e-3, 0.2))


def vp(kind):
    def make(beta_min, more, t_min, t_max):
        return kind(beta_min, beta_min + more, t_min, t_max)

    return st.builds(make, st.floats(0, 5), st.floats(0.1, 50), decades(-6, -1), st.floats(0.5, 2))


# Every process, over the parameters that it is used with and some way beyond.
FAMILIES = {
    "vp": vp(VPSDE),
    "sub-vp": vp(SubVPSDE),
    "ve": st.builds(
        lambda low, ratio, t_min, t_max: VESDE(low, low * ratio, t_min, t_max),
        decades(-4, 0),
        decades(0.1, 6),
        st.floats(0, 0.2),
        st.floats(0.5, 1.5),
    ),
    "cosine": st.builds(lambda a, b: Cosine(a, 1 - b), decades(-6, -1), decades(-6, -0.5)),
    "edm": st.builds(lambda low, ratio: EDM(low, low * ratio), decades(-5, 0), decades(0.1, 6)),
    "rectified-flow": st.builds(
        lambda a, b: RectifiedFlow(a, 1 - b), decades(-6, -1), st.just(0.0) | decades(-6, -0.5)
    ),
    "ddpm-linear": discrete("linear"),
    "ddpm-scaled-linear": discrete("scaled-linear"),
    "ddpm-cosine": discrete("cosine"),
}

DEFAULTS = {
    "vp": VPSDE(),
    "sub-vp": SubVPSDE(),
    "ve": VESDE(),
    "cosine": Cosine(),
    "edm": EDM(),
    "rectified-flow": RectifiedFlow(t_max=0.99),
    "ddpm": DiscreteVPSDE(t_min=0.05, steps=20, beta_max=0.4),
}


def every_family(test):
    """Fewer examples than usual of each, for there are nine."""
    return pytest.mark.parametrize("family", FAMILIES)(settings(max_examples=15)(test))


every_default = pytest.mark.parametrize("sde", DEFAULTS.values(), ids=DEFAULTS.keys())


def times_of(sde, n=64):
    """Times evenly spread over the whole process, both in t and in log t, the ends among them; ``(2n,)``."""
    even = torch.linspace(sde.t_min, sde.t_max, n, dtype=torch.float64)
    first = max(sde.t_min, 1e-6)
    return torch.cat([even, torch.logspace(math.log10(first), math.log10(sde.t_max), n, dtype=torch.float64)])


def inside(sde):
    """The same but for times where a coefficient has a pole, and within the ends in spite of rounding."""
    t = times_of(sde).clamp(sde.t_min, sde.t_max)
    return t[t < 1] if isinstance(sde, RectifiedFlow) else t


def slope(f, t):
    """df / dt, a derivative of our own."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad(f(t).sum(), t)[0]


def close(actual, expected, rtol=1e-11, atol=0.0):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=False)


# ------------------------------------------------------------------------------------- noise levels


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
def test_ddpm_levels_are_those_of_diffusers(schedule, theirs):
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
def test_other_processes_tell_the_network_their_time(sde):
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


# ------------------------------------------------------------------------------------- marginals and prior


# A batch as large as another axis hides a transposition from the shapes, not from the values.
SHAPES = [(3,), (3, 3), (3, 3, 4, 4), (5, 5, 4, 3, 2)]


def draw_like(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_marginal_is_the_normal_of_alpha_and_sigma_sample_by_sample(sde, shape):
    x0, eps = draw_like(shape, 0), draw_like(shape, 1)
    t = torch.linspace(sde.t_min, sde.t_max, shape[0], dtype=torch.float64)
    mean, std = sde.marginal(x0, t)
    x = sde.marginal_sample(x0, t, eps)
    density = sde.marginal_log_density(x, x0, t)
    assert density.shape == shape[:1]
    for i in range(shape[0]):
        alpha, sigma = sde.alpha(t[i]), sde.sigma(t[i])
        close(mean[i], alpha * x0[i], rtol=1e-14)
        close(std.expand(shape)[i], sigma.expand(shape[1:]), rtol=1e-14)
        close(x[i], alpha * x0[i] + sigma * eps[i], rtol=1e-14, atol=1e-14)
        # (x - mean) / std gets eps back but for a rounding of x, 1 / sigma times as large in it.
        expected = Normal(alpha * x0[i], sigma).log_prob(x[i]).sum()
        close(density[i], expected, rtol=1e-12, atol=1e-13 / sigma.item())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_one_time_for_all_is_that_time_for_each(sde, shape):
    x0, eps = draw_like(shape, 0), draw_like(shape, 1)
    t = torch.tensor((sde.t_min + sde.t_max) / 2, dtype=torch.float64)
    each = t.expand(shape[0])
    close(sde.marginal_sample(x0, t, eps), sde.marginal_sample(x0, each, eps), rtol=0)
    close(sde.marginal_log_density(eps, x0, t), sde.marginal_log_density(eps, x0, each), rtol=1e-14)
    close(sde.ode_drift(x0, t, eps), sde.ode_drift(x0, each, eps), rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_default
def test_prior_is_the_normal_of_the_last_sigma(sde, shape):
    eps = draw_like(shape)
    last = torch.tensor(sde.t_max, dtype=torch.float64)
    x = sde.prior_sample(eps)
    close(x, sde.sigma(last) * eps, rtol=1e-15)
    expected = Normal(0.0, sde.sigma(last)).log_prob(x).reshape(shape[0], -1).sum(1)
    close(sde.prior_log_density(x), expected, rtol=1e-13)
    single = sde.prior_sample(eps.float())
    assert single.dtype == torch.float32
    close(single.double(), x, rtol=4 * EPS32)


@every_default
def test_results_have_the_type_of_the_samples_not_of_the_times(sde):
    x = draw_like((3, 2), dtype=torch.float32)
    for t in (torch.full((3,), 0.5, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)):
        results = [*sde.marginal(x, t), sde.marginal_sample(x, t, x), sde.marginal_log_density(x, x, t)]
        results += [sde.ode_drift(x, t, x), sde.reverse_drift(x, t, x)]
        assert {result.dtype for result in results} == {torch.float32}


@every_default
def test_times_outside_the_process_are_refused(sde):
    x = draw_like((2, 3))
    for bad in (sde.t_min * 0.99 - 1e-6, sde.t_max * 1.01, math.nan):
        for t in (torch.tensor([sde.t_max, bad]), torch.tensor(bad)):
            for call in (
                lambda t: sde.marginal(x, t),
                lambda t: sde.marginal_sample(x, t, x),
                lambda t: sde.marginal_log_density(x, x, t),
                lambda t: sde.reverse_drift(x, t, x),
                lambda t: sde.ode_drift(x, t, x),
            ):
                with pytest.raises(ValueError, match=r"^t must be in \["):
                    call(t)


@every_default
def test_the_ends_are_inside_in_float32_too(sde):
    x = torch.zeros(2, 3)
    mean, std = sde.marginal(x, torch.tensor([sde.t_min, sde.t_max]))
    assert torch.isfinite(std).all()
    assert torch.equal(mean, x)


@pytest.mark.parametrize(
    "t", [torch.full((2,), 0.5), torch.full((3, 1), 0.5), torch.full((1,), 0.5)], ids=str
)
def test_times_that_are_not_one_for_every_sample_are_refused(t):
    with pytest.raises(ValueError, match="t must be one number or 3"):
        VPSDE().marginal(torch.zeros(3, 2), t)


@every_default
def test_no_samples_have_no_densities(sde):
    x, t = torch.zeros(0, 3), torch.zeros(0)
    assert sde.marginal_log_density(x, x, t).shape == (0,)
    assert sde.prior_log_density(x).shape == (0,)


# ------------------------------------------------------------------------------------- reverse time


@every_default
def test_drifts_are_the_formulas_of_song(sde):
    x, score = draw_like((4, 2), 0), draw_like((4, 2), 1)
    t = torch.linspace(sde.t_min, sde.t_max, 4, dtype=torch.float64)
    f, g2 = sde.drift(t)[:, None], sde.diffusion2(t)[:, None]
    close(sde.ode_drift(x, t, score), f * x - g2 * score / 2, rtol=1e-14, atol=1e-14)
    close(sde.reverse_drift(x, t, score), f * x - g2 * score, rtol=1e-14, atol=1e-14)
    close(sde.reverse_drift(x, t, score, eta=0.5), f * x - 0.625 * g2 * score, rtol=1e-14, atol=1e-14)


def variance(sde, t, s):
    """Of x_t, for data N(0, s^2)."""
    return (s * sde.alpha(t)) ** 2 + sde.sigma(t) ** 2


@every_default
def test_the_ode_moves_normal_data_along_its_marginals(sde):
    """With the exact score of N(0, s^2) data the ODE takes sqrt(alpha^2 s^2 + sigma^2) along."""
    s = 0.7

    def rhs(t, x):
        t = torch.tensor(t, dtype=torch.float64)
        x = torch.from_numpy(x)[None]
        return sde.ode_drift(x, t, -x / variance(sde, t, s))[0].numpy()

    ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
    # Where coefficients jump, at the steps of a discrete process, the integration begins anew, a hair inside
    # each step (whose 1e-12 of it moves the result by less than 1e-10).
    steps = sde.steps if isinstance(sde, DiscreteVPSDE) else 1
    inner = [] if steps == 1 else [i / steps for i in range(steps - 1, 1, -1)]
    marks = [sde.t_max, *inner, sde.t_min]
    first, last = variance(sde, ends, s).sqrt().tolist()
    x = torch.tensor([first], dtype=torch.float64).numpy()
    for begin, end in pairwise(marks):
        hair = 1e-12 * (begin - end) if inner else 0.0
        solution = solve_ivp(rhs, (begin - hair, end + hair), x, method="DOP853", rtol=1e-11, atol=1e-13)
        assert solution.success
        x = solution.y[:, -1]
    # The solver's 1e-11 a step, added up over the few hundred steps.
    assert x[0] == pytest.approx(last, rel=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
@every_default
def test_the_reverse_sde_of_any_eta_keeps_the_marginals_of_normal_data(sde, eta):
    """Fokker-Planck: drift a x and noise eta g keep the variance P where dP / dt = 2 a P - eta^2 g^2."""
    t = inside(sde)[:, None]
    p = variance(sde, t, 0.7)
    x = torch.ones(len(t), 1, dtype=torch.float64)
    a = sde.reverse_drift(x, t[:, 0], -x / p, eta)
    g2 = sde.diffusion2(t)
    change = slope(lambda t: variance(sde, t, 0.7), t)
    terms = (2 * sde.drift(t) * p).abs() + (1 + 2 * eta**2) * g2
    assert ((2 * a * p - eta**2 * g2 - change).abs() <= 1e-13 * terms).all()


# ------------------------------------------------------------------------------------- parts of a process


@every_family
@given(data=st.data())
def test_clip_keeps_the_process_and_ends_it_at_the_given_lam(family, data):
    sde = data.draw(FAMILIES[family])
    cleanest, noisiest = sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)).tolist()
    noisiest = max(noisiest, -20.0)  # which is -inf for the rectified flow
    low = noisiest + 0.25 * (cleanest - noisiest)
    high = noisiest + 0.75 * (cleanest - noisiest)
    part = sde.clip(low, high)
    ends = torch.tensor([part.t_max, part.t_min], dtype=torch.float64)
    # As time_of: roundings of the logarithms, and of t, carried over by dlam / dt.
    known = 1 + sde.log_alpha(ends).abs() + sde.log_sigma(ends).abs() + ends * slope(sde.lam, ends).abs()
    away = (part.lam(ends) - torch.tensor([low, high], dtype=torch.float64)).abs()
    assert (away <= 32 * EPS * known).all()
    assert replace(part, t_min=sde.t_min, t_max=sde.t_max) == sde
    assert sde.t_min < part.t_min < part.t_max < sde.t_max


@every_default
def test_clip_leaves_an_end_that_it_does_not_cut_to_the_last_bit(sde):
    middle = sde.lam(torch.tensor((sde.t_min + sde.t_max) / 2, dtype=torch.float64)).item()
    assert sde.clip(-math.inf, math.inf) == sde
    assert sde.clip(-math.inf, middle).t_max == sde.t_max
    assert sde.clip(middle, math.inf).t_min == sde.t_min
    assert sde.clip(-math.inf, middle).t_min == pytest.approx(sde.clip(middle, math.inf).t_max, rel=1e-12)


@every_default
@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (50.0, 60.0), (-60.0, -50.0), (math.nan, 0.0), (0.0, math.nan)]
)
def test_clip_to_nothing_is_refused(sde, low, high):
    with pytest.raises(ValueError, match="lam_min and lam_max must leave a part of"):
        sde.clip(low, high)


def test_clip_takes_the_end_without_data_from_the_rectified_flow():
    part = RectifiedFlow().clip(-5.0, math.inf)
    assert part.t_min == RectifiedFlow().t_min
    # lam = log((1 - t) / t) at its lower end.
    assert part.t_max == pytest.approx(1 / (1 + math.exp(-5.0)), rel=1e-14)


# ------------------------------------------------------------------------------------- parameters


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (VPSDE, {"beta_min": 20.0, "beta_max": 0.1}, "beta_min < beta_max"),
        (VPSDE, {"beta_min": 5.0, "beta_max": 5.0}, "beta_min < beta_max"),
        (VPSDE, {"beta_min": -0.1}, "beta_min=-0.1"),
        (VPSDE, {"beta_min": NAN}, "beta_min=nan"),
        (VPSDE, {"beta_max": NAN}, "beta_max=nan"),
        (VPSDE, {"beta_max": INF}, "beta_max=inf"),
        (VPSDE, {"t_min": 1.0, "t_max": 0.5}, "t_min < t_max"),
        (VPSDE, {"t_min": 0.0}, "t_min=0.0"),
        (VPSDE, {"t_min": -1.0}, "t_min=-1.0"),
        (VPSDE, {"t_max": INF}, "t_max=inf"),
        (VPSDE, {"t_min": NAN}, "t_min=nan"),
        (SubVPSDE, {"beta_min": 2.0, "beta_max": 1.0}, "SubVPSDE needs finite 0 <= beta_min < beta_max"),
        (SubVPSDE, {"t_min": 0.0}, "t_min=0.0"),
        (VESDE, {"sigma_min": 50.0, "sigma_max": 0.01}, "sigma_min < sigma_max"),
        (VESDE, {"sigma_min": 1.0, "sigma_max": 1.0}, "sigma_min < sigma_max"),
        (VESDE, {"sigma_min": -1.0}, "sigma_min=-1.0"),
        (VESDE, {"sigma_min": 0.0}, "sigma_min=0.0"),
        (VESDE, {"sigma_max": NAN}, "sigma_max=nan"),
        (VESDE, {"sigma_max": INF}, "sigma_max=inf"),
        (VESDE, {"t_min": -0.1}, "t_min=-0.1"),
        (VESDE, {"t_min": 0.5, "t_max": 0.5}, "t_min < t_max"),
        (Cosine, {"t_max": 1.0}, "t_max=1.0"),
        (Cosine, {"t_min": 0.0}, "t_min=0.0"),
        (Cosine, {"t_min": 0.9, "t_max": 0.1}, "t_min < t_max"),
        (Cosine, {"t_max": NAN}, "t_max=nan"),
        (EDM, {"t_min": 0.0}, "t_min=0.0"),
        (EDM, {"t_min": 80.0, "t_max": 0.002}, "t_min < t_max"),
        (EDM, {"t_max": INF}, "t_max=inf"),
        (EDM, {"t_max": NAN}, "t_max=nan"),
        (RectifiedFlow, {"t_max": 1.1}, "t_max=1.1"),
        (RectifiedFlow, {"t_min": 0.0}, "t_min=0.0"),
        (RectifiedFlow, {"t_min": 1.0}, "t_min < t_max"),
        (RectifiedFlow, {"t_min": NAN}, "t_min=nan"),
        (DiscreteVPSDE, {"beta_min": 0.02, "beta_max": 1e-4}, "beta_min < beta_max"),
        (DiscreteVPSDE, {"beta_min": -1e-4}, "beta_min=-0.0001"),
        (DiscreteVPSDE, {"beta_max": 1.0}, "beta_max=1.0"),
        (DiscreteVPSDE, {"beta_max": NAN}, "beta_max=nan"),
        (DiscreteVPSDE, {"schedule": "liner"}, "one of linear, scaled-linear, cosine, got 'liner'"),
        (DiscreteVPSDE, {"steps": 1}, "steps must be an integer of at least 2, got 1"),
        (DiscreteVPSDE, {"steps": 1000.5}, "steps must be an integer of at least 2, got 1000.5"),
        (DiscreteVPSDE, {"steps": 100}, "0.01 <= t_min"),
        (DiscreteVPSDE, {"t_max": 1.5}, "t_max=1.5"),
    ],
)
def test_parameters_that_cannot_be_are_refused_by_name(make, options, named):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is looked at below
        make(**options)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (VPSDE, {"beta_min": "0.1"}),
        (VESDE, {"sigma_max": None}),
        (EDM, {"t_max": [80.0]}),
        (Cosine, {"t_min": "a"}),
    ],
)
def test_parameters_that_are_no_numbers_are_refused_by_name(make, options):
    (name,) = options
    with pytest.raises(TypeError, match=f"{make.__name__} needs numbers .*{name}="):
        make(**options)
