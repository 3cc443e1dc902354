"""Restart against churn

A solver that adds noise can correct an error of the network: the noise hides what
went wrong at high noise levels, and the network estimates it again at lower ones.
`churn` adds a little noise before each step; `restart` goes back up a whole interval
of levels, several times. Both work around any solver.

The data here are N(0, 1), whose score is known. The network is wrong at high noise
levels: above sigma = 1, its estimate of the data is 0.5 too large.
"""

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from scoresde import EDM, ExactDenoiser, Level, Mixture, Plan, sample
from scoresde.solvers import Churn, Heun, Restart

sde = EDM(0.01, 20.0)
exact = ExactDenoiser(Mixture(torch.zeros(1, 1), torch.ones(1), torch.ones(1)), sde)


class Wrong:
    """The exact denoiser with an error at high noise levels."""

    sde = sde

    def __call__(self, x: Tensor, level: Level[float], cond: object = None) -> Tensor:
        """E[x_0 | x_t], plus 0.5 above sigma = 1."""
        return exact(x, level) + 0.5 * (level.sigma > 1)


solvers = {
    "heun": Heun(),
    "churn": Churn(s_churn=1000.0),
    "restart": Restart(
        Heun(),
        # from 0.3 up to 1.0, two steps down, six times
        intervals=((0.3, 1.0, 2, 6),),
    ),
}

# %% [markdown]
# Where the network is called, in a run of 60 calls of each:

# %%
figure, axes = plt.subplots(
    num="The noise level at each network call, for three solvers", figsize=(7, 4)
)
for name, solver in solvers.items():
    plan = Plan.within(60, solver, sde, "karras")
    sigmas = [level.sigma for level in plan.levels]
    axes.semilogy(sigmas, marker=".", label=name)
axes.set(xlabel="network call", ylabel="sigma")
axes.legend()

# %% [markdown]
# The mean of 20,000 samples should be 0, with a standard error of 0.007. Heun's
# method keeps the error. Churn removes a part of it, and more with more calls.
# Restart adds all its noise at the right levels, and removes most of it.

# %%
for calls in (40, 80, 160):
    means = {
        name: sample(Wrong(), solver, (20000, 1), nfe=calls, spacing="karras").mean()
        for name, solver in solvers.items()
    }
    print(
        f"{calls:3} calls: "
        + ", ".join(f"{name} {mean:.3f}" for name, mean in means.items())
    )
