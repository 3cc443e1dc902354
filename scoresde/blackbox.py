"""The second road: solvers of general differential equations, torchdiffeq's and torchsde's, on ours.

Where the steps are not known before the run there is no table to write down. These solvers own their loop; we give
them the probability-flow ODE or the reverse SDE, count their network calls and keep them within the SDE's times.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .grid import Grid, Spacing, default_spacing
from .plan import Denoise, Draw
from .sde import SDE, Level

# torchdiffeq's methods whose calls a step are always the same many.
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FREE = ("implicit_adams", "scipy_solver")  # as many as their own iteration takes
MOST = 6  # calls a step of implicit_adams: four iterations, and what surrounds them


@dataclass(frozen=True)
class Run:
    """A prepared run: what to do with a state at ``start``; ``nfe`` None where only the run itself can tell."""

    start: Level[float]
    end: Level[float]
    nfe: int | None
    integrate: Callable[[Denoise, Any, Draw], Any]


@dataclass(frozen=True)
class ODE:
    """The probability-flow ODE by any method of torchdiffeq (Chen et al. 2018), d(x / alpha) / dlam = D - x / alpha.

    In the half log-SNR the equation has no pole, whatever the SDE (Lu et al. 2022, arXiv 2206.00927, section 3).

    Args:
        method: fixed steps on the grid: euler, midpoint, heun2, heun3, rk4, explicit_adams, whose number keeps to
            ``nfe``; or adaptive ones: dopri5, dopri8, bosh3, fehlberg2, adaptive_heun, or implicit_adams,
            scipy_solver; there ``nfe`` is a limit, beyond which the run stops with RuntimeError, or None.
        rtol, atol: tolerances of the adaptive methods on x / alpha. The error of a step is that of the worst sample, so
            every sample is at least as good as asked for, and a sample does depend, within the tolerance, on the
            samples beside it.
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

    def prepare(self, sde: SDE, nfe: int | None, spacing: Spacing | None = None, *, to_clean: bool = False) -> Run:
        """The run within ``nfe`` network calls; ValueError if there is none."""
        spacing = spacing or default_spacing(sde)
        if self.method in FIXED:
            if nfe is None:
                raise ValueError(f"nfe must be a number for the fixed steps of {self.method}, got None")
            steps = _longest(nfe - to_clean, lambda n: _ode_calls(self.method, n), f"ode method {self.method}")
        elif self.method == "implicit_adams":
            if nfe is None:
                raise ValueError("nfe must be a number for the fixed steps of implicit_adams, got None")
            steps = _longest(nfe - to_clean, lambda n: MOST * n, "ode method implicit_adams")
        else:
            steps = 1
        grid = Grid.build(sde, steps, spacing)
        if not math.isfinite(grid.levels[0].lam):
            raise ValueError(f"ode has no beginning where alpha = 0; clip {sde}")
        calls = _ode_calls(self.method, steps) + to_clean if self.method in FIXED else None
        last = grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            denoise = _limited(denoise, nfe, self)

            def slope(lam: Tensor, y: Tensor) -> Tensor:
                (level,) = grid.at([min(max(lam.item(), grid.levels[0].lam), last.lam)])
                return (denoise(level.alpha * y, level) - y).to(y.dtype)  # type: ignore[no-any-return]

            y = self._solve(slope, x / grid.levels[0].alpha, [level.lam for level in grid.levels])
            return denoise(last.alpha * y, last) if to_clean else last.alpha * y  # type: ignore[no-any-return]

        return Run(grid.levels[0], grid.levels[-1], calls, integrate)

    def _solve(self, slope: Callable[[Tensor, Tensor], Tensor], y: Tensor, lams: list[float]) -> Tensor:
        from torchdiffeq import odeint

        times = torch.tensor(lams, dtype=torch.float64, device=y.device)
        options: dict[str, Any] = {}
        if self.method in ADAPTIVE:
            # step_t: the last step ends at the end, where it would otherwise go beyond and interpolate back.
            options = {"step_t": times[-1:], "norm": _worst}
        with torch.no_grad():
            path: Tensor = odeint(slope, y, times, rtol=self.rtol, atol=self.atol, method=self.method, options=options)
        return path[-1]


@dataclass(frozen=True)
class TorchSDE:
    """The reverse SDE by the solvers of torchsde (Li et al. 2020), step by step on the grid.

    In t from noise to data, with the drift of :meth:`SDE.reverse_drift` at eta = 1 and the additive noise g dw. The
    increments of w are ours, so that a sample does not depend on its batch.

    Args:
        method: euler (strong order 1 for additive noise), milstein (the same here), srk (1.5), heun, midpoint,
            euler_heun (1).
    """

    method: str = "srk"

    def __post_init__(self) -> None:
        if self.method not in TORCHSDE:
            raise ValueError(f"method must be one of {', '.join(TORCHSDE)}, got {self.method!r}")

    def prepare(self, sde: SDE, nfe: int | None, spacing: Spacing | None = None, *, to_clean: bool = False) -> Run:
        """The longest run within ``nfe`` network calls; ValueError if there is none."""
        if nfe is None:
            raise ValueError("nfe must be a number for torchsde, got None")
        per_step = TORCHSDE[self.method]
        steps = _longest(nfe - to_clean, lambda n: n * per_step, f"torchsde method {self.method}")
        grid = Grid.build(sde, steps, spacing or default_spacing(sde))
        if grid.levels[0].alpha == 0:
            raise ValueError(f"torchsde has no beginning where alpha = 0; clip {sde}")
        last = grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            y = _torchsde_steps(self.method, grid, denoise, x, noise)
            return denoise(y, last) if to_clean else y  # type: ignore[no-any-return]

        return Run(grid.levels[0], last, steps * per_step + to_clean, integrate)


# torchsde's methods for additive noise, and how often each calls the drift in a step.
TORCHSDE = {"euler": 1, "milstein": 1, "srk": 3, "heun": 2, "midpoint": 2, "euler_heun": 1}


def _torchsde_steps(method: str, grid: Grid, denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
    from torchsde._core.base_sde import ForwardSDE
    from torchsde._core.methods import select

    sde, shape = grid.sde, x.shape
    ito = method in ("euler", "milstein", "srk")
    end = grid.levels[-1].t

    class Reverse:
        """dx = -(reverse drift) dr + g dw in r = -t; torchsde's time must rise."""

        noise_type, sde_type = "additive", "ito" if ito else "stratonovich"

        def f(self, r: Tensor, y: Tensor) -> Tensor:
            # Rounding of r must not leave the grid's times.
            t = torch.tensor(min(max(-r.item(), end), grid.levels[0].t), dtype=torch.float64)
            level = Level(*torch.stack(sde.level(t)).tolist())
            x = y.reshape(shape)
            score = (level.alpha * denoise(x, level) - x) / level.sigma**2
            slope = sde.drift(t).item() * x - sde.diffusion2(t).item() * score
            return -slope.reshape(y.shape)

        def g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> Tensor:
            t = r.new_tensor(min(max(-r.item(), end), grid.levels[0].t))
            return sde.diffusion2(t).sqrt().item() * v

        def g(self, r: Tensor, y: Tensor) -> Tensor:
            raise RuntimeError("the diffusion is only ever multiplied")

        def f_and_g_prod(self, r: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return self.f(r, y), self.g_prod(r, y, v)

    y = x.flatten(1)
    brownian = _Brownian(y, noise)
    solver = select(method, Reverse.sde_type)(
        sde=ForwardSDE(Reverse()), bm=brownian, dt=0.0, adaptive=False, rtol=0.0, atol=0.0, dt_min=0.0, options={}
    )
    with torch.no_grad():
        times = [torch.tensor(-level.t, dtype=torch.float64) for level in grid.levels]
        extra = solver.init_extra_solver_state(times[0], y)
        for now, then in zip(times, times[1:], strict=False):
            y, extra = solver.step(now, then, y, extra)
            y = y.to(x.dtype)
    return y.reshape(shape)


class _Brownian:
    """Increments of a Brownian path and, asked for, their space-time integrals, one after the other.

    w ~ N(0, h), and u = integral of (w - w_0) = h w / 2 + sqrt(h^3 / 12) z.
    """

    levy_area_approximation = "space-time"

    def __init__(self, y: Tensor, noise: Draw) -> None:
        self.shape, self._noise, self._draws = y.shape, noise, 0

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False) -> Any:  # noqa: N803
        h = (tb - ta).item()
        w = math.sqrt(h) * self._draw()
        return (w, h / 2 * w + math.sqrt(h**3 / 12) * self._draw()) if return_U else w

    def _draw(self) -> Tensor:
        self._draws += 1
        drawn: Tensor = self._noise(self._draws - 1)
        return drawn.flatten(1)


def _longest(nfe: int, calls: Callable[[int], int], what: str) -> int:
    """The largest number of steps within a budget of network calls."""
    if nfe < calls(1):
        raise ValueError(f"nfe is too small for {what}, which needs {calls(1)} calls for a step, got {nfe}")
    low, high = 1, nfe
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if calls(middle) <= nfe else (low, middle - 1)
    return low


def _ode_calls(method: str, steps: int) -> int:
    """How often a method of fixed steps calls its function: counted on dy / dt = y."""
    from torchdiffeq import odeint

    calls = 0

    def slope(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return y

    odeint(slope, torch.ones(1), torch.linspace(0, 1, steps + 1, dtype=torch.float64), method=method)
    return calls


def _limited(denoise: Denoise, nfe: int | None, solver: ODE) -> Denoise:
    left = math.inf if nfe is None else nfe

    def call(x: Any, level: Level[float]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError(
                f"{solver} is not done after {nfe} network calls, at t = {level.t:.4g}; raise nfe, or the tolerances"
            )
        return denoise(x, level)

    return call


def _worst(x: Tensor) -> Tensor:
    """The largest root mean square of a sample."""
    return x.flatten(1).square().mean(1).sqrt().max() if x.ndim > 1 else x.abs().max()


