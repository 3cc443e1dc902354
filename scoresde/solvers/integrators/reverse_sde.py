"""The reverse SDE by torchsde."""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from ...denoisers.apart import apart
from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN, Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, _longest, begun
from .brownian import _Brownian


@dataclass(frozen=True)
class TorchSDE(Integrator):
    """The reverse SDE by the solvers of torchsde (Li et al. 2020), step by step on the grid.

    In t from noise to data, with the drift of :meth:`SDE.reverse_drift` at eta = 1 and the additive noise g
    dw. The increments of w are ours, so that a sample does not depend on its batch.

    Args:
        method: euler (strong order 1 for additive noise), milstein (the same here), srk (1.5), heun,
            midpoint, euler_heun (1). Those of more than one call a step need many steps: they are explicit,
            and stiff at the end.
    """

    method: str = "euler"

    def __post_init__(self) -> None:
        if self.method not in TORCHSDE:
            raise ValueError(f"method must be one of {', '.join(TORCHSDE)}, got {self.method!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The longest run within ``nfe`` network calls; ValueError if there is none."""
        if nfe is None:
            raise ValueError("nfe must be a number for torchsde, got None")
        per_step = TORCHSDE[self.method]
        steps = _longest(nfe, lambda n: n * per_step + to_clean, f"torchsde method {self.method}", spacing)
        grid = begun(Grid.build(sde, steps, spacing), "torchsde")
        last = grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            y = _torchsde_steps(self.method, grid, denoise, x, noise)
            return denoise(y, last) if to_clean else y

        return Integration(
            grid.levels[0], CLEAN if to_clean else last, steps * per_step + to_clean, integrate, True
        )


# torchsde's methods for additive noise, and how often each calls the drift in a step.
TORCHSDE = {"euler": 1, "milstein": 1, "srk": 3, "heun": 2, "midpoint": 2, "euler_heun": 1}


def _torchsde_steps(method: str, grid: Grid, denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
    from torchsde._core.base_sde import ForwardSDE
    from torchsde._core.methods import select

    sde, shape, denoise = grid.sde, x.shape, apart(denoise)
    ito = method in ("euler", "milstein", "srk")
    end = grid.levels[-1].t
    known = {level.t: (level, *rates) for level, rates in zip(grid.levels, grid.rates, strict=False)}

    @cache
    def at(t: float) -> tuple[Level[float], float, float]:
        """The level at t, its f and g^2; rounding of t must not leave the grid's times."""
        if t in known:
            return known[t]
        time = torch.tensor([min(max(t, end), grid.levels[0].t)], dtype=torch.float64)
        return sde.levels(time)[0], sde.drift(time).item(), sde.diffusion2(time).item()

    class Reverse:
        """dx = -(reverse drift) dr + g dw in r = -t; torchsde's time must rise."""

        noise_type, sde_type = "additive", "ito" if ito else "stratonovich"

        def f(self, r: Tensor, y: Tensor) -> Tensor:
            level, f, g2 = at(-r.item())
            x = y.reshape(shape)
            score = (level.alpha * denoise(x, level) - x) / level.sigma**2
            slope: Tensor = f * x - g2 * score
            return -slope.reshape(y.shape)

        def g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> Tensor:
            return math.sqrt(at(-r.item())[2]) * v

        def g(self, r: Tensor, y: Tensor) -> Tensor:
            raise RuntimeError("the diffusion is only ever multiplied")

        def f_and_g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return self.f(r, y), self.g_prod(r, y, v)

    y = x.reshape(len(x), -1)
    brownian = _Brownian(y, noise)
    solver = select(method, Reverse.sde_type)(
        sde=ForwardSDE(Reverse()),
        bm=brownian,
        dt=0.0,
        adaptive=False,
        rtol=0.0,
        atol=0.0,
        dt_min=0.0,
        options={},
    )
    with torch.no_grad():
        times = [torch.tensor(-level.t, dtype=torch.float64) for level in grid.levels]
        extra = solver.init_extra_solver_state(times[0], y)
        for now, then in pairwise(times):
            y, extra = solver.step(now, then, y, extra)
            y = y.to(x.dtype)
    return y.reshape(shape)
