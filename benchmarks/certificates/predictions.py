"""Networks of every prediction, made from the mixture's score: all must sample what the denoiser samples."""

import math
from collections.abc import Callable
from functools import cache

import torch
from known import SDES, exact_denoiser, mixture, reference, relative
from torch import Tensor

from certificates.runs import carry
from scoresde import SDE, Denoiser, Level, Plan, integrate
from scoresde.denoisers.predictions import PREDICTIONS
from scoresde.solvers import DPMSolverPP

DATA = 0.5  # sigma_data of EDM


@cache
def predictions(name: str) -> dict[str, float]:
    """For every prediction, the relative difference of a network's samples to those of the denoiser."""
    sde = SDES[name]
    plan = Plan.make(DPMSolverPP(2), sde, 20)
    x, _, _ = reference(name)
    exact = carry(plan, mixture, x)
    differences = {}
    for prediction, make in PREDICTIONS.items():
        denoiser = Denoiser(network(prediction, sde, plan), sde, make())
        end = integrate(plan, denoiser, torch.from_numpy(x)[:, None])[:, 0]
        differences[prediction] = relative(end.detach().numpy(), exact)
    return differences


def network(prediction: str, sde: SDE, plan: Plan) -> Callable[[Tensor, Tensor], Tensor]:
    """A network ``(x, label) -> prediction`` for the levels of a plan.

    The prediction follows from the score, which is the gradient of the mixture's log density.
    """
    density = exact_denoiser(sde).mixture.log_density
    levels = {sde.label(level.t) if prediction != "edm" else -level.lam / 4: level for level in plan.levels}

    def net(seen: Tensor, label: Tensor) -> Tensor:
        _, alpha, sigma, _ = levels[min(levels, key=lambda other: abs(other - label[0].item()))]
        root = math.hypot(DATA * alpha, sigma)
        x = (seen * root if prediction == "edm" else seen).detach().requires_grad_()
        (score,) = torch.autograd.grad(density(x, Level(math.nan, alpha, sigma, math.nan)).sum(), x)
        x = x.detach()
        eps = -sigma * score
        x0 = (x - sigma * eps) / alpha
        return {
            "noise": eps,
            "score": score,
            "data": x0,
            "v": alpha * eps - sigma * x0,
            "velocity": eps - x0,
            # F of Karras et al. 2022, eq. 7, at y = x / alpha and noise level sigma / alpha
            "edm": (x0 - DATA**2 * alpha / root**2 * x) * root / (DATA * sigma),
        }[prediction]

    return net
