"""Tuning a table for five calls

`tune` fits the noise levels and the weights of a solver to one network and one budget
of calls. It compares stock solvers, then fits a table to a converged run. At the
end it compares both on noises that no fit has used, and returns the better one. Here
the network is the exact denoiser of a mixture of 32 normal distributions in 64
dimensions, and the settings are small.
"""

# %%
import matplotlib.pyplot as plt
import torch

from scoresde import EDM, ExactDenoiser, Mixture, sample, tune
from scoresde.tuning import Settings

means = 0.5 * torch.randn(
    32, 64, generator=torch.Generator().manual_seed(64), dtype=torch.float64
)
shares = torch.linspace(1, 2, 32, dtype=torch.float64)
mixture = Mixture(
    means, torch.linspace(0.05, 0.25, 32, dtype=torch.float64), shares / shares.sum()
)
network = ExactDenoiser(mixture, EDM())

small = Settings(
    samples=384,
    held_out=512,
    starts=2,
    solvers=("ddim", "dpmpp-2m", "unic", "velocity-adams"),
    spacings=("karras", "align-your-steps"),
)
plan, report = tune(network, nfe=5, shape=(64,), settings=small)
print(report)

# %% [markdown]
# The returned plan is a solver. Its error on new noises, compared with stock
# solvers:

# %%
shape = (2000, 64)
converged = sample(network, "auto", shape, nfe=100, seed=1)


def error(x: torch.Tensor) -> float:
    """The root of the mean square distance to the converged run."""
    return float((x - converged).square().mean().sqrt())


figure, axes = plt.subplots(
    num="Error against calls: stock solvers and the tuned table", figsize=(7, 4)
)
calls = [5, 6, 8, 10, 12]
for name in ("ddim", "dpmpp-2m", "unic", "velocity-adams"):
    errors = [
        error(sample(network, name, shape, nfe=n, spacing="align-your-steps", seed=1))
        for n in calls
    ]
    axes.semilogy(calls, errors, marker="o", label=name)
axes.semilogy(
    [5],
    [error(sample(network, plan, shape, seed=1))],
    "k*",
    markersize=14,
    label="tuned",
)
axes.set(xlabel="network calls", ylabel="RMSE to the converged run", xticks=calls)
axes.legend()
