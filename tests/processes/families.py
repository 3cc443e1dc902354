"""Processes over the parameters that they are used with, and times of each."""

import math

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from scoresde.processes.continuous import EDM, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from scoresde.processes.discrete import DiscreteVPSDE

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
