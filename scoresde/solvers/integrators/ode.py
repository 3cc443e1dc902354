"""The probability-flow ODE by torchdiffeq."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN
from ...processes.sde import SDE
from ...spacings.catalogue import steps_of
from ...spacings.default import default_spacing
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, _limited, _longest, begun, worst
from .flow import _flow, _points

# torchdiffeq's methods whose calls a step are always the same many.
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams")


ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


FREE = ("implicit_adams", "scipy_solver")  # as many as their own iteration takes


ADAMS = ("explicit_adams", "implicit_adams")  # of order 4: torchdiffeq's own 12 blows up at any usual step


MOST = 6  # calls a step of implicit_adams: four iterations, and what surrounds them


@dataclass(frozen=True)
class ODE(Integrator):
    """The probability-flow ODE by any method of torchdiffeq (Chen et al. 2018).

    As d(x / alpha) / dr = eps, r = sigma / alpha, the equation is the same for every SDE and has no pole, and
    a network that knows the data needs few steps: pure noise is a straight line (Karras et al. 2022, arXiv
    2206.00364, section 3).

    Args:
        method: fixed steps on the grid: euler, midpoint, heun2, heun3, rk4, and, on one that is uniform in
            lambda, explicit_adams and implicit_adams, of order 4; their number keeps to ``nfe``. Or adaptive
            steps: dopri5, dopri8, bosh3, fehlberg2, adaptive_heun, scipy_solver; there ``nfe`` is a limit,
            beyond which the run stops with RuntimeError, or None.
        rtol, atol: tolerances of the adaptive methods on x / alpha. The error of a step is that of the worst
            sample, so every sample is at least as good as asked for, and a sample does depend, within the
            tolerance, on the samples beside it.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        known = FIXED + ADAPTIVE + FREE
        if self.method not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {self.method!r}")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol!r} and {self.atol!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run within ``nfe`` network calls; ValueError if there is none."""
        spacing = default_spacing(sde) if spacing is None else spacing
        steps = steps_of(spacing) or 1
        if self.method in FIXED + ADAMS:
            if nfe is None:
                raise ValueError(f"nfe must be a number for the fixed steps of {self.method}, got None")
            per_run = _ode_calls if self.method in FIXED else lambda _, n: MOST * n
            steps = _longest(
                nfe, lambda n: per_run(self.method, n) + to_clean, f"ode method {self.method}", spacing
            )
        grid = begun(Grid.build(sde, steps, spacing), "ode")
        in_lam = self.method in ADAMS
        if in_lam and not _even([level.lam for level in grid.levels]):
            raise ValueError(
                f"spacing must be uniform-lambda for ode method {self.method}, whose weights are those of "
                f"equal steps, got {spacing}"
            )
        calls = _ode_calls(self.method, steps) + to_clean if self.method in FIXED else None
        last = grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            denoise = _limited(denoise, nfe, self)
            points = _points(grid, in_lam)
            y = self._solve(_flow(grid, denoise, in_lam), x / grid.levels[0].alpha, points)
            return denoise(last.alpha * y, last) if to_clean else last.alpha * y

        return Integration(grid.levels[0], CLEAN if to_clean else last, calls, integrate)

    def _solve(self, slope: Callable[[float, Tensor], Tensor], x: Tensor, points: list[float]) -> Tensor:
        from torchdiffeq import odeint

        y = x.to(float64_device(x.device))  # where torchdiffeq can keep its times

        if self.method not in FIXED + ADAMS:
            points = [points[0], points[-1]]
        times = torch.tensor(points, dtype=torch.float64, device=y.device)
        options: dict[str, Any] = {"max_order": 5} if self.method in ADAMS else {}  # theirs counts one more
        if self.method in ADAPTIVE:
            # step_t: the last step ends at the end, where it would otherwise go beyond and interpolate back.
            options = {"step_t": times[-1:], "norm": worst}

        def rate(at: Tensor, y: Tensor) -> Tensor:
            return slope(at.item(), y.to(x.device)).to(y.device)

        tolerances = {"rtol": self.rtol, "atol": self.atol}
        with torch.no_grad():
            path: Tensor = odeint(rate, y, times, method=self.method, options=options, **tolerances)
        if len(path) != len(times):  # scipy's solvers give up without a word
            raise FloatingPointError(f"{self} gave up before its end")
        return path[-1].to(x.device)


def _even(points: list[float]) -> bool:
    """Are the points equally far from one another, but for rounding?"""
    steps = [b - a for a, b in pairwise(points)]
    return max(steps) - min(steps) <= 1e-6 * max(steps)


@cache
def _ode_calls(method: str, steps: int) -> int:
    """How often a method of fixed steps calls its function: counted on dy / dt = y."""
    from torchdiffeq import odeint

    calls = 0

    def slope(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return y

    options = {"max_order": 5} if method in ADAMS else {}
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    odeint(slope, torch.ones(1), times, method=method, options=options)
    return calls
