"""Your own solver

A solver is a frozen dataclass with an order and a method `solve(tape, x, grid)`. It
reads like the paper. This one is the two-step Adams-Bashforth rule in r = sigma /
alpha, where the probability-flow ODE is d (x / alpha) / dr = eps. Each step makes
one network call, and uses the slope of the last two outputs.
"""

# %%
import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import torch

from scoresde import EDM, VPSDE, ExactDenoiser, Mixture, Plan, Tape, integrate
from scoresde.plans import Vector
from scoresde.solvers.moves import eps_of, move
from scoresde.spacings import Grid


@dataclass(frozen=True)
class TwoStep:
    """eps at the middle of the step, on the line through the last two outputs."""

    order = 2

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        """Write the run on the tape."""
        earlier = None
        for t, s in grid.steps():
            eps = eps_of(t, x, tape.denoise(x, t))
            now, end = math.exp(-t.lam), math.exp(-s.lam)  # r at both ends of the step
            middle = eps
            if earlier is not None:
                before, eps_before = earlier
                middle = eps + (end - now) / 2 / (now - before) * (eps - eps_before)
            x = tape.state(move(t, s, x, middle))
            earlier = now, eps
        return x


# %% [markdown]
# `eps_of` is the noise in terms of the state and the estimate of the data, and `move`
# is the exact step with constant noise. Neither the state nor the outputs are tensors
# here: they are symbols, and the result is a table.

# %%
print(Plan.make(TwoStep(), EDM(), 3, "karras"))

# %% [markdown]
# The order on the exact score of a mixture, measured on two SDEs:

# %%
means = torch.tensor([[1.0], [-0.6]], dtype=torch.float64)
data = Mixture(
    means,
    torch.tensor([0.3, 0.5], dtype=torch.float64),
    torch.tensor([0.4, 0.6], dtype=torch.float64),
)
noise = torch.randn(
    200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64
)
steps = [20, 40, 80, 160, 320]
figure, axes = plt.subplots(
    num="Error against the number of steps, on two SDEs", figsize=(7, 4)
)
for sde in (EDM(0.02, 20.0), VPSDE()):
    network = ExactDenoiser(data, sde)
    runs = [Plan.make(TwoStep(), sde, n, "uniform-lambda") for n in (*steps, 5000)]
    *ends, exact = (integrate(run, network, run.start.sigma * noise) for run in runs)
    errors = [float((end - exact).square().mean().sqrt()) for end in ends]
    axes.loglog(steps, errors, marker="o", label=type(sde).__name__)
    print(
        f"{type(sde).__name__}: measured order {math.log2(errors[-2] / errors[-1]):.2f}"
    )
axes.set(xlabel="steps", ylabel="error", xticks=steps, xticklabels=steps)
axes.minorticks_off()
axes.legend()

# %% [markdown]
# Pass `TwoStep()` to `sample` in place of a solver's name. To give it a name, see
# [How to add](../../.github/CONTRIBUTING.md).
