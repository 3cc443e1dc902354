"""Adaptive integrators with one step size per sample.

Each sample has its own level, step and error test, and leaves the batch when it is done: the network sees
fewer and fewer rows, and no sample depends on the samples beside it. The host synchronises with the device up
to three times per attempt. A pair of steps is written on symbols, as in a table; its weights are tensors, one
number per sample.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...devices import float64_device
from ...noise import later
from ...plans.executor import Draw
from ...plans.vector import Vector
from ...processes.level import CLEAN, Level, column, per_sample
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, NotDone, build_grid, from_pure_noise
from .brownian import BrownianPath
from .controller import LARGEST_THETA, Controller


class Solved(NamedTuple):
    """The end of a run, and the number of network calls of each sample, ``(B,)``."""

    x: Tensor
    calls: Tensor


# A step of low order, the same step of high order, and the level that both reach.
Pair = tuple[Vector, Vector, Level[Any]]


class PerSampleIntegrator(Integrator):
    """An embedded pair of steps, low and high order, whose length is chosen for each sample alone.

    E = rms((high - low) / max(atol, rtol max(|low|, |low before|))), the mean over the numbers of the sample.
    Each x is in units of sqrt(alpha^2 + sigma^2) at its level: the unit is 1 for a VP process, and the other
    processes have the steps of VP. (A tolerance relative to a sigma of 80 would accept every step.) If
    E <= 1 the sample goes on from ``high``. In both cases :class:`Controller` chooses its next step, which
    ends at the last level at most.

    A run from alpha = 0 begins with a step that is exact for constant data, one network call. It ends where
    R = sigma / alpha is 10 / sqrt(tolerance), the larger of the two. For data of variance C, its error is
    about C / (2 R^2) of the state: C / 200 of the tolerance.
    """

    rtol: float
    atol: float
    h_init: float
    theta: float
    h_max: float = math.inf
    stochastic: ClassVar[bool]

    def __post_init__(self) -> None:
        for name in ("rtol", "atol", "h_init"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value!r}")
        if not self.h_max > 0:
            raise ValueError(f"h_max must be positive, got {self.h_max!r}")
        if not 0 < self.theta <= LARGEST_THETA:
            raise ValueError(f"theta must be positive and at most {LARGEST_THETA}, got {self.theta!r}")

    @property
    @abstractmethod
    def exponent(self) -> float:
        """The next step is proportional to E^-exponent."""

    @property
    @abstractmethod
    def calls_per_attempt(self) -> int:
        """Network calls of an attempt at a step."""

    @abstractmethod
    def time(self, level: Level[float]) -> float:
        """The variable of the steps, lam or -t; it rises from noise to data."""

    @abstractmethod
    def embedded_pair(self, samples: "Samples", sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        """Both steps from x (and the noise w, if any) at the times ``begin`` to the times ``end``."""

    def first_step(self, begin: float, goal: float) -> float:
        """The length of the first attempt."""
        return self.h_init

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run between the ends of the spacing, of at most ``nfe`` network calls for any sample."""
        grid = build_grid(sde, spacing)
        least = (grid.levels[0].alpha == 0) + self.calls_per_attempt + to_clean
        if nfe is not None and nfe < least:
            raise ValueError(f"nfe must be at least {least} for {self}, got {nfe}")

        def integrate(denoise: Any, x: Tensor, noise: Draw) -> Tensor:
            return self.carry_out(denoise, x, noise, sde, nfe, spacing, to_clean=to_clean).x

        return Integration(
            grid.levels[0], CLEAN if to_clean else grid.levels[-1], None, integrate, self.stochastic
        )

    @torch.no_grad()
    def carry_out(
        self,
        denoise: Any,
        x: Tensor,
        noise: Draw,
        sde: SDE,
        nfe: int | None = None,
        spacing: Spacing | str | None = None,
        *,
        to_clean: bool = False,
    ) -> Solved:
        """A run from x ``(B, ...)``; ``denoise`` as in :class:`Integration`; ``noise(i)`` is draw i.

        Raises:
            RuntimeError: a sample needs more than ``nfe`` network calls.
            FloatingPointError: a step is too short to move, as when the network is not finite.
        """
        grid = build_grid(sde, spacing)
        first, last = grid.levels[0], grid.levels[-1]
        spent = int(first.alpha == 0)
        if spent:
            grid = Grid(sde, (self._second_level(sde, last), last))
            z = noise(0) if self.stochastic else x / first.sigma
            x, noise = from_pure_noise(denoise, x, z, first, grid.levels[0]), later(noise, x.dtype)
        run, most = _Run(self, grid, x, noise), math.inf if nfe is None else nfe - to_clean
        run.calls += spent
        while len(rows := run.unfinished()):
            if spent + self.calls_per_attempt > most:
                raise NotDone(
                    f"{self} is not done after {spent} network calls: {run.left(rows)}; raise nfe, or the "
                    f"tolerances"
                )
            run.attempt(denoise, rows)
            spent += self.calls_per_attempt
        if to_clean:
            return Solved(denoise(run.x, last), run.calls + 1)
        return Solved(run.x, run.calls)

    def _second_level(self, sde: SDE, last: Level[float]) -> Level[float]:
        """The end of a first step from alpha = 0."""
        lam = math.log(max(self.rtol, self.atol)) / 2 - math.log(10)
        return sde.level_of(lam) if lam < last.lam else last


class _Run:
    """A batch on its way: every sample has its own time, next step and number of calls."""

    def __init__(self, solver: PerSampleIntegrator, grid: Grid, x: Tensor, noise: Draw) -> None:
        first = grid.levels[0]
        self.solver, self.sde = solver, grid.sde
        self.begin, self.goal = solver.time(first), solver.time(grid.levels[-1])
        self.controller = Controller(solver.theta, solver.exponent, solver.h_max)
        self.x = x.clone()
        self.path = BrownianPath(x, noise) if solver.stochastic else None
        self.time = torch.full((len(x),), self.begin, dtype=torch.float64, device=float64_device(x.device))
        self.h = torch.full_like(self.time, min(solver.first_step(self.begin, self.goal), solver.h_max))
        self.calls = torch.zeros_like(self.time, dtype=torch.long)
        self.low_before = x / math.hypot(first.alpha, first.sigma)

    def unfinished(self) -> Tensor:
        """The samples that are not at the end."""
        return (self.time < self.goal).nonzero().flatten()

    def left(self, rows: Tensor) -> str:
        """The number of samples that are left, and the longest part of a way that is left."""
        way = (self.goal - self.time.min().item()) / (self.goal - self.begin)
        last = f"the last of them with {way:.3g} of its way to go"
        return f"{len(rows)} of {len(self.x)} samples are left, {last}"

    def attempt(self, denoise: Any, rows: Tensor) -> None:
        """One attempt of these samples at a step: an accepted step moves a sample, a refused one does not."""
        begin, wanted = self.time[rows], self.h[rows]
        step = torch.minimum(wanted, self.goal - begin)
        vectors = {"x": self.x[rows]}
        if self.path:
            step, vectors["w"] = self.path.ahead(rows, step)
        end = torch.where(step < self.goal - begin, begin + step, self.goal)
        if not (begin + step > begin).all():  # nan, too
            raise FloatingPointError(f"{self.solver} takes steps so short that they lead nowhere")
        samples = Samples(denoise, rows, vectors)
        low, high, s = self.solver.embedded_pair(samples, self.sde, begin, end)
        unit = (s.alpha**2 + s.sigma**2) ** -0.5
        seen = samples.value(unit * low)
        error = self._error(seen, samples.value(unit * (high - low)), rows)
        accepted = error <= 1
        moves = per_sample(accepted.to(self.x.device), self.x)
        self.x[rows] = torch.where(moves, samples.value(high), vectors["x"])
        self.low_before[rows] = torch.where(moves, seen, self.low_before[rows])
        self.time[rows] = torch.where(accepted, end, begin)
        self.h[rows] = self.controller.next_step(step, wanted, error, accepted)
        self.calls[rows] += self.solver.calls_per_attempt
        if self.path:
            self.path.passed(rows[accepted])

    def _error(self, low: Tensor, difference: Tensor, rows: Tensor) -> Tensor:
        """E of each sample."""
        size = torch.maximum(low.abs(), self.low_before[rows].abs())
        return _rms(difference / size.mul_(self.solver.rtol).clamp_(min=self.solver.atol))


class Samples:
    """Some samples of a batch, each at its own level, for a step that is written on symbols."""

    def __init__(self, denoise: Any, rows: Tensor, vectors: dict[str, Tensor]) -> None:
        self._denoise, self._rows, self._vectors = denoise, rows, dict(vectors)

    def denoise(self, x: Vector, level: Level[Any]) -> Vector:
        """The network's estimates of x_0: one call."""
        name = f"d{len(self._vectors)}"
        self._vectors[name] = self._denoise(self.value(x), level, self._rows)
        return Vector({name: 1.0})

    def value(self, x: Vector) -> Tensor:
        """The tensor that a symbol stands for."""
        terms: list[Tensor] = [
            column(weight, self._vectors[name]) * self._vectors[name] for name, weight in x.weights.items()
        ]
        return sum(terms[1:], terms[0])


def levels_at(sde: SDE, times: Tensor) -> list[Level[Any]]:
    """The levels at each row of times; rounding must not leave the times of the SDE."""
    columns = sde.level(times.clamp(sde.t_min, sde.t_max))
    return [Level(*(column[i] for column in columns)) for i in range(len(times))]


def _rms(x: Tensor) -> Tensor:
    """The root mean square of each sample, rounded to float32.

    The last digits of float64 depend on the order of summation, and so on the batch.
    """
    x = x.to(float64_device(x.device)).reshape(len(x), -1)
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    return (norm / math.sqrt(x[0].numel())).float().double()
