"""The reverse SDE by torchsde."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...denoisers.apart import apart
from ...noise import later
from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN, Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, build_grid, from_pure_noise, most_steps
from .brownian import BrownianIncrements


@dataclass(frozen=True)
class TorchSDE(Integrator):
    """The reverse SDE by the solvers of torchsde (Li et al. 2020, arXiv 2001.01328), on the steps of a grid.

    The time is t, from noise to data; the drift is :meth:`SDE.reverse_drift` at eta = 1, the noise g dw is
    additive. The increments of w are ours, so that a sample does not depend on its batch. A step from alpha =
    0, where f is infinite, is the exact reverse transition for constant data, one network call.

    Args:
        method: euler (strong order 1 for additive noise), milstein (the same formula here), srk (1.5), heun,
            midpoint, euler_heun (1). The methods of two or three calls a step need many steps: they are
            explicit, and the SDE is stiff at its end.
    """

    method: str = "euler"

    def __post_init__(self) -> None:
        if self.method not in TORCHSDE:
            raise ValueError(f"method must be one of {', '.join(TORCHSDE)}, got {self.method!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The longest run within ``nfe`` network calls; ValueError if no run fits."""
        if nfe is None:
            raise ValueError("nfe must be a number for torchsde, got None")
        per_step, from_0 = TORCHSDE[self.method], build_grid(sde, spacing).levels[0].alpha == 0

        def calls(steps: int) -> int:
            return per_step * (steps - from_0) + from_0 + to_clean

        steps = most_steps(nfe, calls, f"torchsde method {self.method}", spacing)
        grid = build_grid(sde, spacing, steps)
        first, last = grid.levels[0], grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            y = self._steps(grid, denoise, x, noise)
            return denoise(y, last) if to_clean else y

        return Integration(first, CLEAN if to_clean else last, calls(steps), integrate, True)

    @torch.no_grad()
    def _steps(self, grid: Grid, denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
        if grid.levels[0].alpha == 0:
            x = from_pure_noise(denoise, x, noise(0), *grid.levels[:2])
            grid, noise = Grid(grid.sde, grid.levels[1:]), later(noise, x.dtype)
        y = x.reshape(len(x), -1)
        equation = _ReverseSDE("ito" if self.method in ITO else "stratonovich", grid, denoise, x.shape)
        solver = _solver(self.method, equation, BrownianIncrements(y, noise))
        times = [torch.tensor(-level.t, dtype=torch.float64) for level in grid.levels]
        extra = solver.init_extra_solver_state(times[0], y)
        for now, then in pairwise(times):
            y, extra = solver.step(now, then, y, extra)
            y = y.to(x.dtype)
        return y.reshape(x.shape)


# The methods of torchsde for additive noise, and how often each calls the drift in a step.
TORCHSDE = {"euler": 1, "milstein": 1, "srk": 3, "heun": 2, "midpoint": 2, "euler_heun": 1}
# The methods for an equation in Ito's form; the others take Stratonovich's. Additive noise has one form.
ITO = ("euler", "milstein", "srk")


class _ReverseSDE:
    """dx = -(reverse drift) dr + g dw in r = -t, as torchsde takes it; its time must rise."""

    noise_type = "additive"

    def __init__(self, sde_type: str, grid: Grid, denoise: Denoise, shape: torch.Size) -> None:
        self.sde_type, self.grid, self.denoise, self.shape = sde_type, grid, apart(denoise), shape
        levels = zip(grid.levels, grid.rates, strict=False)
        self.known = {level.t: (level, *rates) for level, rates in levels}

    def f(self, r: Tensor, y: Tensor) -> Tensor:
        level, f, g2 = self._at(-r.item())
        x = y.reshape(self.shape)
        score = (level.alpha * self.denoise(x, level) - x) / level.sigma**2
        slope: Tensor = f * x - g2 * score
        return -slope.reshape(y.shape)

    def g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> Tensor:
        return math.sqrt(self._at(-r.item())[2]) * v

    def g(self, r: Tensor, y: Tensor) -> Tensor:
        raise RuntimeError("torchsde needs the diffusion in products only")

    def f_and_g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.f(r, y), self.g_prod(r, y, v)

    def _at(self, t: float) -> tuple[Level[float], float, float]:
        """The level at t, its f and g^2; rounding of t must not leave the times of the grid."""
        if t not in self.known:
            first, last = self.grid.levels[0].t, self.grid.levels[-1].t
            time = torch.tensor([min(max(t, last), first)], dtype=torch.float64)
            sde = self.grid.sde
            self.known[t] = sde.levels(time)[0], sde.drift(time).item(), sde.diffusion2(time).item()
        return self.known[t]


def _solver(method: str, equation: _ReverseSDE, increments: BrownianIncrements) -> Any:
    """torchsde's solver, to be stepped by us: its own loop draws its own increments."""
    from torchsde._core.base_sde import ForwardSDE
    from torchsde._core.methods import select

    return select(method, equation.sde_type)(
        sde=ForwardSDE(equation),
        bm=increments,
        dt=0.0,
        adaptive=False,
        rtol=0.0,
        atol=0.0,
        dt_min=0.0,
        options={},
    )
