"""Spacings, simple ones and composed ones, and coordinates of their levels."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from scoresde import SDE
from scoresde.spacings import (
    Beta,
    FlowTime,
    Joined,
    Karras,
    Polyexponential,
    PowerTime,
    QuadraticTime,
    Refined,
    Shifted,
    Spacing,
    UniformLambda,
    UniformSigma,
    UniformTime,
)
from tests.problems import floats


def joined_at(noisy: Spacing, clean: Spacing, part: float, share: float) -> Spacing:
    """Joined a part of the way in lambda."""

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = lams_of(sde, sde.t_max, sde.t_min)
        return Joined(noisy, clean, first + part * (last - first), share)(sde, n)

    return spacing


# Spacings of any length for any SDE, with parameters far beyond the usual ones.
simple: st.SearchStrategy[Spacing] = st.one_of(
    st.sampled_from([UniformTime(), QuadraticTime(), UniformLambda(), UniformSigma()]),
    st.builds(PowerTime, floats(0.3, 5)),
    st.builds(Beta, floats(0.3, 3), floats(0.3, 3)),
    st.builds(Karras, floats(0.2, 100)),
    st.builds(FlowTime, floats(0.3, 5), floats(0.01, 100)),
    st.builds(Polyexponential, floats(0.3, 4)),
)
composed: st.SearchStrategy[Spacing] = st.one_of(
    simple,
    st.builds(Shifted, simple, floats(0.3, 3)),
    st.builds(Refined, simple, st.integers(1, 7)),
    st.builds(joined_at, simple, simple, floats(0.1, 0.9), floats(0.1, 0.9)),
)


def lams_of(sde: SDE, *times: float) -> list[float]:
    return sde.lam(torch.tensor(times, dtype=torch.float64)).tolist()


def ratios(sde: SDE, times: Tensor) -> Tensor:
    """sigma / alpha."""
    return torch.exp(-sde.lam(times))


def fractions(n: int) -> Tensor:
    return torch.arange(n + 1, dtype=torch.float64) / n
