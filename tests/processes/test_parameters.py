"""Parts of processes, and parameters that are refused."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE
from tests.processes.families import EPS, FAMILIES, every_default, every_family, slope


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
def test_parameters_that_are_not_numbers_are_refused_by_name(make, options):
    (name,) = options
    with pytest.raises(TypeError, match=f"{make.__name__} needs numbers .*{name}="):
        make(**options)
