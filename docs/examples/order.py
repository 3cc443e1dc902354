"""The order of a solver, measured

A solver of order $p$ has an error of about $C h^p$ for steps of size $h$: with
twice as many steps, the error is $2^p$ times smaller. This can be measured if the
exact score is known. The data here are a mixture of three normal distributions.
"""

# %%
import math

import matplotlib.pyplot as plt
import torch

from scoresde import EDM, SOLVERS, ExactDenoiser, Mixture, Plan, integrate

means = torch.tensor([[1.0, 0.0], [-0.6, 0.9], [-0.6, -0.9]], dtype=torch.float64)
stds = torch.tensor([0.3, 0.2, 0.4], dtype=torch.float64)
sde = EDM(0.02, 20.0)
data = Mixture(means, stds, torch.full((3,), 1 / 3, dtype=torch.float64))
network = ExactDenoiser(data, sde)

noise = torch.randn(
    200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
start = 20.0 * noise  # x at sigma = 20


def end(solver: str, steps: int) -> torch.Tensor:
    """Where the probability-flow ODE ends, in float64."""
    return integrate(Plan.make(SOLVERS[solver], sde, steps), network, start)


exact = end("exp-rk4", 2000)

# %% [markdown]
# The error is the root of the mean square distance to a run of 2,000 steps of a
# method of order 4.

# %%
steps = [20, 40, 80, 160, 320]
figure, axes = plt.subplots(
    num="Error against the number of steps, for five solvers", figsize=(7, 4.5)
)
for solver in ("ddim", "dpmpp-2m", "dpm2", "dpmpp-3m", "exp-rk4"):
    errors = [float((end(solver, n) - exact).square().mean().sqrt()) for n in steps]
    axes.loglog(steps, errors, marker="o", label=solver)
    order = math.log2(errors[-2] / errors[-1])
    print(f"{solver:9} order {SOLVERS[solver].order}, measured {order:.2f}")
axes.set(xlabel="steps", ylabel="error", xticks=steps, xticklabels=steps)
axes.minorticks_off()
axes.legend()
