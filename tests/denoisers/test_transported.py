"""A denoiser of one process, used under another."""

import pytest
import torch

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import data
from scoresde.denoisers.transported import Transported
from scoresde.processes.continuous import EDM, VPSDE, RectifiedFlow
from scoresde.processes.level import Level
from tests.denoisers.cases import SDES, draw, wide


def exact(sde, s=0.7):
    """The denoiser of N(0, s^2) data, as a network that estimates x_0."""

    def net(x, t):
        alpha, sigma = (wide(number, x) for number in (sde.alpha(t), sde.sigma(t)))
        return alpha * s**2 / ((s * alpha) ** 2 + sigma**2) * x

    return Denoiser(net, sde, data)


@pytest.mark.parametrize("new", SDES.values(), ids=SDES.keys())
@pytest.mark.parametrize("trained", [VPSDE(), EDM(), RectifiedFlow()], ids=["vp", "edm", "rectified-flow"])
def test_an_exact_denoiser_transported_is_the_exact_one_of_the_new_process(trained, new):
    denoiser = Transported(exact(trained), new)
    x = draw((3, 2), 0)
    assert new.t_min <= denoiser.sde.t_min < denoiser.sde.t_max <= new.t_max
    for place in (0.0, 0.3, 1.0):
        t = denoiser.sde.t_min + place * (denoiser.sde.t_max - denoiser.sde.t_min)
        level = Level(*torch.stack(new.level(torch.tensor(t, dtype=torch.float64))).tolist())
        # lam goes through an inverse: a few roundings of it and of x / alpha.
        expected = level.alpha * 0.49 / (level.alpha**2 * 0.49 + level.sigma**2) * x
        torch.testing.assert_close(denoiser(x, level), expected, rtol=1e-11, atol=0)


def test_processes_without_a_common_level_are_refused():
    with pytest.raises(ValueError, match="lam_min and lam_max must leave a part of"):
        Transported(exact(EDM(t_min=0.002, t_max=0.01)), EDM(t_min=1.0, t_max=80.0))
