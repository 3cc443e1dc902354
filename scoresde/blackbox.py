"""The second road: solvers of general differential equations, torchdiffeq's, torchsde's and scipy's, on ours.

Where the steps are not known before the run there is no table to write down. These solvers own their loop; we
give them the probability-flow ODE or the reverse SDE, count their network calls and keep them within the
SDE's times.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .apart import apart
from .devices import float64_device
from .grid import Grid, check_budget, levels_of
from .plan import Denoise, Draw
from .planning import longest
from .sde import CLEAN, SDE, Level
from .spacings import Spacing, default_spacing, listed_steps

# torchdiffeq's methods whose calls a step are always the same many.
FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams")
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
FREE = ("implicit_adams", "scipy_solver")  # as many as their own iteration takes
ADAMS = ("explicit_adams", "implicit_adams")  # of order 4: torchdiffeq's own 12 blows up at any usual step
MOST = 6  # calls a step of implicit_adams: four iterations, and what surrounds them


@dataclass(frozen=True)
class Run:
    """A prepared run: what to do with a state at ``start``; ``nfe`` None where only the run can tell.

    ``integrate(denoise, x, noise)`` takes a ``denoise(x, level)``; that of a run which asks for every sample
    at a level of its own is called ``denoise(x, level, rows)``, too: row k of x is then a state of sample
    ``rows[k]`` of the batch, at number k of each of the level's float64 tensors ``(len(x),)``.
    """

    start: Level[float]
    end: Level[float]
    nfe: int | None
    integrate: Callable[[Any, Any, Draw], Any]
    stochastic: bool = False


class NotDone(RuntimeError, ValueError):
    """A run by tolerance needs more network calls than it was given."""


class BlackBox(ABC):
    """A solver that owns its loop: it prepares a :class:`Run`, where a table's solver writes a plan."""

    @abstractmethod
    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Run:
        """The run within ``nfe`` network calls; ValueError if there is none."""


@dataclass(frozen=True)
class ODE(BlackBox):
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
    ) -> Run:
        """The run within ``nfe`` network calls; ValueError if there is none."""
        spacing = default_spacing(sde) if spacing is None else spacing
        steps = listed_steps(spacing) or 1
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

        return Run(grid.levels[0], CLEAN if to_clean else last, calls, integrate)

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


# scipy's methods, and what tells the implicit ones that samples do not depend on one another, so that a
# Jacobian of differences costs as many calls as one sample has numbers.
SCIPY: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "RK23": lambda samples, size: {},
    "RK45": lambda samples, size: {},
    "DOP853": lambda samples, size: {},
    "Radau": lambda samples, size: {"jac_sparsity": _blocks(samples, size)},
    "BDF": lambda samples, size: {"jac_sparsity": _blocks(samples, size)},
    "LSODA": lambda samples, size: {"lband": size - 1, "uband": size - 1},
}


@dataclass(frozen=True)
class SciPy(BlackBox):
    """The probability-flow ODE by ``scipy.integrate.solve_ivp``, in float64 on the host: a reference.

    The equation is that of :class:`ODE`, d(x / alpha) / dr = eps with r = sigma / alpha; the state is float64
    whatever the type of x, the network is asked in the type and on the device of x. RK45 at tolerances of
    1e-5 is the ODE sampler of Song et al. 2021 (arXiv 2011.13456, appendix D.4), theirs in t. Virtanen et al.
    2020 (scipy).

    Args:
        method: RK23, RK45, DOP853 (explicit; orders 3, 5, 8), Radau, BDF, LSODA (implicit, or where stiff).
            The implicit ones find a Jacobian by differences, which wants a float64 network and few
            dimensions.
        rtol, atol: tolerances on x / alpha. The error of a step is a mean over all samples: a sample depends,
            within the tolerance, on the samples beside it. ``nfe`` is a limit, beyond which the run stops
            with RuntimeError, or None.
    """

    method: str = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if self.method not in SCIPY:
            raise ValueError(f"method must be one of {', '.join(SCIPY)}, got {self.method!r}")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol!r} and {self.atol!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Run:
        """The run between the ends of the spacing."""
        grid = begun(Grid.build(sde, listed_steps(spacing) or 1, spacing), "scipy")
        first, last = grid.levels[0], grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            from scipy.integrate import solve_ivp

            denoise = _limited(denoise, nfe, self)

            def network(y: Tensor, level: Level[float]) -> Tensor:
                d: Tensor = denoise(y.to(x), level).cpu().double()
                if not d.isfinite().all():  # scipy would shorten the step until it gives up, or raise its own
                    raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
                return d

            slope = _flow(grid, network)
            begin, end = _points(grid)[0], _points(grid)[-1]
            path = solve_ivp(
                lambda u, y: slope(u, torch.from_numpy(y).reshape(x.shape)).flatten().numpy(),
                (begin, end),
                (x.cpu().double() / first.alpha).flatten().numpy(),
                method=self.method,
                rtol=self.rtol,
                atol=self.atol,
                **SCIPY[self.method](len(x), x[0].numel()),
            )
            if not path.success:
                raise FloatingPointError(f"{self} gave up before its end: {path.message}")
            x = (last.alpha * torch.from_numpy(path.y[:, -1])).reshape(x.shape).to(x)
            return denoise(x, last) if to_clean else x

        return Run(first, CLEAN if to_clean else last, None, integrate)


@dataclass(frozen=True)
class TorchSDE(BlackBox):
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
    ) -> Run:
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

        return Run(grid.levels[0], CLEAN if to_clean else last, steps * per_step + to_clean, integrate, True)


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
        return levels_of(sde, time)[0], sde.drift(time).item(), sde.diffusion2(time).item()

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


class _Brownian:
    """Increments of a Brownian path and, asked for, their space-time integrals, one after the other.

    w ~ N(0, h), and u = integral of (w - w_0) = h w / 2 + sqrt(h^3 / 12) z.
    """

    levy_area_approximation = "space-time"

    def __init__(self, y: Tensor, noise: Draw) -> None:
        self.shape, self._noise, self._draws = y.shape, noise, 0

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False) -> Any:
        h = (tb - ta).item()
        w = math.sqrt(h) * self._draw()
        return (w, h / 2 * w + math.sqrt(h**3 / 12) * self._draw()) if return_U else w

    def _draw(self) -> Tensor:
        self._draws += 1
        drawn: Tensor = self._noise(self._draws - 1)
        return drawn.reshape(self.shape)


def begun(grid: Grid, what: str) -> Grid:
    """The grid, if there is some data at its beginning: where alpha is 0, x / alpha and f are infinite."""
    if grid.levels[0].alpha == 0:
        raise ValueError(f"{what} has no beginning where alpha = 0; clip {grid.sde}")
    return grid


def _points(grid: Grid, in_lam: bool = False) -> list[float]:
    """u = -sigma / alpha, which rises, or lam, at the levels of a grid."""
    return [level.lam if in_lam else -level.sigma / level.alpha for level in grid.levels]


def _flow(grid: Grid, denoise: Denoise, in_lam: bool = False) -> Callable[[float, Any], Any]:
    """dy / du on the probability-flow ODE, y = x / alpha, in u = -sigma / alpha or in lam."""
    first, *_, last = points = _points(grid, in_lam)
    known = dict(zip(points, grid.levels, strict=True))

    def slope(u: float, y: Any) -> Any:
        u = min(max(u, first), last)  # a first try of a step may look beyond the end
        level = known.get(u) or grid.at([u if in_lam else -math.log(-u)])[0]
        rate = 1.0 if in_lam else level.alpha / level.sigma  # dlam / du
        return (denoise(level.alpha * y, level) - y) * rate

    return slope


def _blocks(samples: int, size: int) -> Any:
    """Where a Jacobian may be other than 0, for samples that do not depend on one another."""
    from scipy.sparse import identity, kron

    return kron(identity(samples), torch.ones(size, size).numpy())


def _longest(nfe: int, calls: Callable[[int], int], what: str, spacing: Spacing | str | None) -> int:
    """The most steps within a budget of network calls; of listed times, their own."""
    listed = listed_steps(spacing)
    low, high = listed or 1, listed or nfe
    if not listed:
        check_budget(nfe)
    if nfe < calls(low):
        raise ValueError(f"nfe must be at least {calls(low)} for {what}, got {nfe}")
    return longest(nfe, low, high, calls)


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


def _limited(denoise: Denoise, nfe: int | None, solver: BlackBox) -> Denoise:
    left = math.inf if nfe is None else nfe

    def call(x: Any, level: Level[float]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise NotDone(
                f"{solver} is not done after {nfe} network calls, at t = {level.t:.4g}; raise nfe, or the "
                f"tolerances"
            )
        return denoise(x, level)

    return call


def worst(x: Tensor) -> Tensor:
    """The largest root mean square of a sample."""
    return x.flatten(1).square().mean(1).sqrt().max() if x.ndim > 1 else x.abs().max()
