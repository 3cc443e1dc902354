"""Normal data in the shape of pictures, operators on them, and their exact posterior."""

import math

import torch
from torch import Tensor

from scoresde import ExactDenoiser, FullMixture
from scoresde.conditioning.linear import Linear, matrix_of
from scoresde.conditioning.operators import Blur, Grey, Known, Matrix, Pool
from scoresde.denoisers.protocol import Wrapper, as_denoiser
from tests.problems import normal

SHAPE = (2, 4, 4)
D = 32

LEFT = torch.arange(4).expand(4, 4) < 2
DENSE = Matrix(normal(10, D, seed=5) / 4, SHAPE)
OPERATORS = {
    "known": Known(LEFT),
    "pool": Pool(2),
    "blur": Blur(torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.6, 0.0], [0.0, 0.0, 0.1]]), (4, 4)),
    "grey": Grey((0.2, 0.7)),
    "matrix": DENSE,
}
LINEAR = Linear(DENSE.forward, DENSE.adjoint, iterations=15, singular=False)


class Pictures(Wrapper):
    """A denoiser of flat samples, for pictures."""

    def __init__(self, denoiser, shape=SHAPE):
        self.denoiser, self.shape = as_denoiser(denoiser), shape

    def at(self, dtype):
        return Pictures(self.denoiser.at(dtype), self.shape)

    def __call__(self, x, level, cond=None):
        return self.denoiser(x.flatten(1), level, cond).reshape(x.shape)


def random_covariance(d: int, seed: int = 0) -> Tensor:
    """Eigenvalues from 2 to 0.01 on random axes."""
    axes, _ = torch.linalg.qr(normal(d, d, seed=seed))
    return (axes * torch.logspace(math.log10(2), -2, d, dtype=torch.float64)) @ axes.mT


COVARIANCE = random_covariance(D)
MEAN = normal(D, seed=1)


def normal_prior(covariance: Tensor = COVARIANCE, mean: Tensor = MEAN) -> FullMixture:
    return FullMixture.of(mean[None], covariance[None], torch.ones(1, dtype=torch.float64))


PRIOR = normal_prior()


def exact_posterior(prior, sde, operator, y, tau):
    """E[x_0 | x_t, y] by the conjugate formulas, for one y of all samples."""
    dense = matrix_of(operator, SHAPE, y)
    return Pictures(ExactDenoiser(prior.condition(dense, y.flatten(), tau), sde))


def twenty_levels(sde):
    """Evenly spaced in lambda, from end to end."""
    return [sde.level_of(lam) for lam in torch.linspace(*sde.lam_ends(), 20, dtype=torch.float64).tolist()]


def noisy(prior, level, n=4, seed=0):
    """States at a level, and the data in them."""
    x0 = prior.sample(n, seed).reshape(n, *SHAPE)
    return level.alpha * x0 + level.sigma * normal(n, *SHAPE, seed=seed + 1), x0
