"""The probability-flow ODE by torchdiffeq."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from ..moves import are_even
from .base import Integration, Integrator, build_grid, limited, most_steps, worst
from .flow import LINE, LOG, ROOT, Variable, even_steps, flow_points, flow_slope, unit

# The methods of torchdiffeq. FIXED: the number of calls follows from the number of steps.
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams")

# Steps by their error.
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")

# An iteration inside decides on the number of calls.
UNCOUNTED = ("implicit_adams", "scipy_solver")

# With order 4: their default, 12, is unstable at any usual step.
ADAMS = ("explicit_adams", "implicit_adams")

# The most calls of a step of implicit_adams: four iterations, and two calls around them.
CALLS_PER_IMPLICIT_STEP = 6


@dataclass(frozen=True)
class ODE(Integrator):
    """The probability-flow ODE by any method of torchdiffeq (Chen et al. 2018, arXiv 1806.07366).

    The equation is dy / du = eps - x_0, with y = x / (alpha + sigma), u = sigma / (alpha + sigma) and the
    network's estimates of noise and data: the rectified flow (Liu et al. 2023, arXiv 2209.03003) of any SDE,
    which starts at alpha = 0 too. Fixed steps on any grid are steps in u, so that Euler's step is DDIM's. The
    other methods step in sqrt(u): for the same error they need fewer network calls than in sigma / alpha or
    its logarithm.

    The error of an adaptive step is the error of the worst sample. So every sample keeps the tolerance, and a
    sample depends, within the tolerance, on the samples beside it. For adaptive methods ``nfe`` is a limit or
    None; a run that needs more calls stops with RuntimeError.

    Args:
        method: one of three kinds.
            Fixed steps on the grid within ``nfe`` calls: euler, midpoint, heun2, heun3, rk4.
            Fixed steps of equal length, of order 4: explicit_adams, implicit_adams. They are equal in sqrt(u)
            where no spacing is given; the other spacing that they take is uniform-lambda.
            Adaptive steps between the ends of the spacing: dopri5, dopri8, bosh3, fehlberg2, adaptive_heun,
            scipy_solver.
        rtol: relative tolerance of the adaptive methods on y, which is x itself at the clean end.
        atol: absolute tolerance of the adaptive methods on y.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        known = FIXED + ADAPTIVE + UNCOUNTED
        if self.method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {self.method!r}")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol!r} and {self.atol!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run within ``nfe`` network calls; ValueError if no run fits."""
        steps = None
        if self.method in FIXED + ADAMS:
            if nfe is None:
                raise ValueError(f"nfe must be a number for the fixed steps of {self.method}, got None")
            what = f"ode method {self.method}"
            steps = most_steps(nfe, lambda n: self._most_calls(n) + to_clean, what, spacing)
        grid = build_grid(
            sde, even_steps(ROOT) if spacing is None and self.method in ADAMS else spacing, steps
        )
        variable = self._variable(grid, spacing)
        calls = self._most_calls(steps) + to_clean if steps and self.method in FIXED else None
        first, last = grid.levels[0], grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            denoise = limited(denoise, nfe, self)
            slope = flow_slope(grid, denoise, variable)
            x = unit(last) * self._solve(slope, x / unit(first), flow_points(grid, variable))
            return denoise(x, last) if to_clean else x

        return Integration(first, CLEAN if to_clean else last, calls, integrate)

    def _variable(self, grid: Grid, spacing: Spacing | str | None) -> Variable:
        """The variable in which the method steps on the grid."""
        if self.method not in ADAMS:
            return LINE if self.method in FIXED else ROOT
        for variable in (ROOT, LOG):
            if are_even(flow_points(grid, variable)):
                return variable
        raise ValueError(
            f"spacing must be None or uniform-lambda for ode method {self.method}, whose weights are those "
            f"of equal steps, got {spacing}"
        )

    def _most_calls(self, steps: int) -> int:
        """The calls of a run of fixed steps; at most, for implicit_adams."""
        return fixed_calls(self.method, steps) if self.method in FIXED else CALLS_PER_IMPLICIT_STEP * steps

    def _solve(self, slope: Callable[[float, Tensor], Tensor], x: Tensor, points: list[float]) -> Tensor:
        from torchdiffeq import odeint

        y = x.to(float64_device(x.device))  # torchdiffeq keeps its times, in float64, on the same device
        if self.method not in FIXED + ADAMS:
            points = [points[0], points[-1]]
        times = torch.tensor(points, dtype=torch.float64, device=y.device)
        options = _adams_options(self.method)
        if self.method in ADAPTIVE:
            # step_t: the last step ends at the end, where it would otherwise go beyond and interpolate back.
            options = {"step_t": times[-1:], "norm": worst}

        def rate(at: Tensor, y: Tensor) -> Tensor:
            return slope(at.item(), y.to(x.device)).to(y.device)

        tolerances = {"rtol": self.rtol, "atol": self.atol}
        with torch.no_grad():
            path: Tensor = odeint(rate, y, times, method=self.method, options=options, **tolerances)
        if len(path) != len(times):  # a solver of scipy that gives up returns a part of the path, silently
            raise FloatingPointError(f"{self} gave up before its end")
        return path[-1].to(x.device)


def _adams_options(method: str) -> dict[str, Any]:
    """Order 4; torchdiffeq's max_order is one more than the order."""
    return {"max_order": 5} if method in ADAMS else {}


@cache
def fixed_calls(method: str, steps: int) -> int:
    """How often a method of fixed steps calls its function: counted on dy / dt = y."""
    from torchdiffeq import odeint

    calls = 0

    def slope(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return y

    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    odeint(slope, torch.ones(1), times, method=method, options=_adams_options(method))
    return calls
