"""Spacings against other libraries, published lists and equations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, DiscreteVPSDE, RectifiedFlow
from scoresde.spacings import (
    AlignYourSteps,
    Beta,
    Karras,
    Polyexponential,
    QuadraticTime,
    Shifted,
    Spacing,
    UniformLambda,
    UniformTime,
)
from scoresde.spacings.lists import ALIGN_YOUR_STEPS
from tests.problems import floats
from tests.spacings.cases import ratios


def k_diffusions_karras(n: int, low: float, high: float, rho: float) -> np.ndarray:
    ramp = np.linspace(0, 1, n)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def k_diffusions_exponential(n: int, low: float, high: float) -> np.ndarray:
    return np.exp(np.linspace(math.log(high), math.log(low), n))


def k_diffusions_polyexponential(n: int, low: float, high: float, rho: float) -> np.ndarray:
    ramp = np.linspace(1, 0, n) ** rho
    return np.exp(ramp * (math.log(high) - math.log(low)) + math.log(low))


@given(st.integers(2, 60), floats(1, 12), floats(0.3, 4), floats(1e-3, 0.1), floats(1, 500))
def test_spacings_are_k_diffusions(n: int, rho: float, poly: float, low: float, high: float) -> None:
    """get_sigmas_karras, _exponential and _polyexponential, on the process whose time is sigma itself."""
    sde = EDM(low, high)
    for spacing, sigmas in (
        (Karras(rho), k_diffusions_karras(n, low, high, rho)),
        (UniformLambda(), k_diffusions_exponential(n, low, high)),
        (Polyexponential(poly), k_diffusions_polyexponential(n, low, high, poly)),
    ):
        # exp and log of numbers to the power of 12, between.
        torch.testing.assert_close(spacing(sde, n - 1), torch.from_numpy(sigmas), rtol=1e-11, atol=0)


STABLE_DIFFUSION = DiscreteVPSDE(0.00085, 0.012, schedule="scaled-linear")
OF_DIFFUSERS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "linspace",
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, of numpy 2
@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
@pytest.mark.parametrize(
    ("option", "spacing"),
    [
        ("use_karras_sigmas", Karras()),
        ("use_exponential_sigmas", UniformLambda()),
        ("use_beta_sigmas", Beta()),
    ],
)
def test_spacings_are_as_in_diffusers(scheduler: str, option: str, spacing: Spacing) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = getattr(diffusers, scheduler)(**OF_DIFFUSERS, **{option: True})
    theirs.set_timesteps(12)
    assert theirs.sigmas[-1] == 0
    sigmas = theirs.sigmas[:-1].double()
    if option == "use_beta_sigmas":  # of sigma: the process whose time that is
        sde: SDE = EDM(*ratios(STABLE_DIFFUSION, torch.tensor([1e-3, 1.0], dtype=torch.float64)).tolist())
    else:
        sde = STABLE_DIFFUSION
    # float32, and its cumulative product of a thousand numbers
    torch.testing.assert_close(ratios(sde, spacing(sde, 11)), sigmas, rtol=2e-5, atol=0)


@pytest.mark.parametrize("shift", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("spacing", [UniformTime(), QuadraticTime(), Beta()])
def test_shifted_is_equation_23_of_stable_diffusion_3_on_a_rectified_flow(
    spacing: Spacing, shift: float
) -> None:
    """2403.03206: sqrt(m / n) t / (1 + (sqrt(m / n) - 1) t), of every level but the one end that stays."""
    sde = RectifiedFlow()
    inner = sde if shift >= 1 else RectifiedFlow(t_min=1e-3 / (shift + (1 - shift) * 1e-3))  # goes to t_min
    t = spacing(inner, 9)
    expected = shift * t / (1 + (shift - 1) * t)
    expected[-1] = sde.t_min
    torch.testing.assert_close(Shifted(spacing, shift)(sde, 9), expected, rtol=1e-13, atol=0)  # roundings


def test_shifted_is_the_shift_of_diffusers_for_a_flow() -> None:
    """On 1, 1 - 1/n, ..., 1/n; their t = 0 is a t_min of next to nothing."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    ours = Shifted(UniformTime(), 3.0)(RectifiedFlow(t_min=1e-9), 8)
    torch.testing.assert_close(ours, theirs.sigmas.double(), rtol=1e-6, atol=1e-8)  # float32


@pytest.mark.parametrize(("model", "name"), [("sd15", "StableDiffusion"), ("sdxl", "StableDiffusionXL")])
def test_align_your_steps_is_the_published_list(model: str, name: str) -> None:
    """As sigmas, and as the timesteps which these lists are for Stable Diffusion's noise levels."""
    lists = pytest.importorskip("diffusers.schedulers.scheduling_utils").AysSchedules
    times = AlignYourSteps(model)(STABLE_DIFFUSION, 10)
    sigmas = ratios(STABLE_DIFFUSION, times)
    published = torch.tensor(lists[f"{name}Sigmas"][:-1], dtype=torch.float64)
    torch.testing.assert_close(sigmas[:-1], published, rtol=0, atol=5e-4)  # the ends, to three decimals
    torch.testing.assert_close(sigmas[1:-1], published[1:], rtol=1e-12, atol=0)  # the rounding of an inverse
    steps = torch.tensor([*lists[f"{name}Timesteps"], 0], dtype=torch.float64)
    # The nearest of the thousand steps, from sigmas of three decimals.
    torch.testing.assert_close(STABLE_DIFFUSION.label(times), steps, rtol=0, atol=0.6)
    # Their ends, 14.615 and 0.029, are its first and last level, rounded.
    assert (times[0], times[-1]) == (STABLE_DIFFUSION.t_max, STABLE_DIFFUSION.t_min)


def test_align_your_steps_of_video_diffusion_is_the_published_list() -> None:
    lists = pytest.importorskip("diffusers.schedulers.scheduling_utils").AysSchedules
    published = torch.tensor([*lists["StableDiffusionVideoSigmas"][:-1], 0.002], dtype=torch.float64)
    times = AlignYourSteps("svd")(EDM(0.002, 700.0), 10)
    torch.testing.assert_close(times, published, rtol=1e-13, atol=0)  # the rounding of an inverse
    assert (times[0], times[-1]) == (700.0, 0.002)


@pytest.mark.parametrize("n", [1, 2, 7, 10, 33, 1000])
@pytest.mark.parametrize("model", ALIGN_YOUR_STEPS)
def test_align_your_steps_of_another_length_is_linear_in_log_sigma(model: str, n: int) -> None:
    """As they publish it, from clean to noisy."""
    sigmas = np.array(ALIGN_YOUR_STEPS[model])
    places = np.linspace(0, 1, len(sigmas))
    expected = np.exp(np.interp(np.linspace(0, 1, n + 1), places, np.log(sigmas[::-1])))[::-1].copy()
    times = AlignYourSteps(model)(EDM(1e-3, 800.0), n)
    torch.testing.assert_close(times, torch.from_numpy(expected), rtol=1e-12, atol=0)  # roundings
    ends = AlignYourSteps(model)(EDM(sigmas[-1] + 4e-4, sigmas[0] - 4e-4), n)
    assert ends.diff().max() < 0  # the ends are an SDE's before levels are put between
