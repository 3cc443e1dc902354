"""A mixture of three numbers, and small tunings of it, that the tests of this folder share."""

from dataclasses import replace

import numpy as np
import torch

from scoresde import EDM, VPSDE, ExactDenoiser, Karras, Mixture, Noise, Plan, RectifiedFlow, integrate, tune
from scoresde.denoisers.protocol import Watched
from scoresde.solvers import DPMSolverPP
from scoresde.tuning import Settings
from scoresde.tuning.family import GROUPS, Family
from scoresde.tuning.pairs import Pairs
from scoresde.tuning.progress import Progress
from scoresde.tuning.task import Task

CLIPPED = EDM(t_min=0.02, t_max=20.0)
SDES = (CLIPPED, VPSDE(), RectifiedFlow(t_max=0.99))
MEANS = torch.tensor([[1.0, 0.2, -0.4], [-0.8, 0.6, 0.5], [0.1, -1.0, 0.3]], dtype=torch.float64)
MIXTURE = Mixture(MEANS, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double())
EXACT = ExactDenoiser(MIXTURE, CLIPPED)
FEW = {"solvers": ("ddim", "dpmpp-2m"), "spacings": ("karras",)}
SMALL = {"samples": 64, "held_out": 128, "iterations": 2, "bands": 3, **FEW}


def noises(sde, n, first=0, dtype=torch.float64):
    """Initial states of n samples."""
    sigma = sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64)).item()
    return sigma * Noise(5, torch.arange(first, first + n), (3,))(0).to(dtype)


def exact_pairs(n, first=0, denoiser=EXACT):
    """Initial states, and their ends by 64 calls."""
    x = noises(CLIPPED, n, first)
    return Pairs(x, integrate(Plan.make(DPMSolverPP(3), CLIPPED, 64), denoiser, x))


def family(sde=CLIPPED, nfe=4, solver=None, window=3):
    lams = tuple(sde.lam(Karras()(sde, nfe)).tolist())
    return Family(sde, solver or DPMSolverPP(2), lams, variance=0.5, window=window)


def moved(of, groups=GROUPS, by=0.1):
    """Parameters that are not zero, and the indices of those that may move."""
    indices = of.indices(groups)
    theta = np.zeros(of.size)
    theta[indices] = by * np.sin(1.0 + np.arange(len(indices)))
    return theta, indices


def tuned(nfe=3, state=None, feature_map=None, **settings):
    """A tuning of the mixture in about a second."""
    chosen = Settings(**SMALL | settings)
    return tune(EXACT, nfe, (3,), settings=chosen, batch_size=256, state=state, feature_map=feature_map)


def same(made, whole):
    """The same plan and the same figures, except the cost."""
    (plan, report), (other, expected) = made, whole
    assert plan == other
    assert plan.about == other.about
    assert replace(report, calls=0, seconds=0.0) == replace(expected, calls=0, seconds=0.0)


class Bar:
    """A bar that keeps what it showed."""

    def __init__(self, **given):
        self.n, self.total, self.seen, self.phases = 0, None, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count):
        self.n += count
        self.seen.append((self.n, self.total))

    def set_description_str(self, text, refresh=True):
        self.phases.append(text)

    def refresh(self):
        pass


def task(denoiser=EXACT, nfe=3, feature_map=None, **settings):
    """The task of a small tuning."""
    progress = Progress(Bar())
    watched = Watched(denoiser, progress.observe)
    return Task(
        denoiser=watched,
        draft=watched,
        feature_map=feature_map,
        levels=None,
        nfe=nfe,
        shape=(3,),
        cond=None,
        seed=0,
        settings=Settings(**SMALL | settings),
        batch_size=256,
        device=torch.device("cpu"),
        progress=progress,
    )
