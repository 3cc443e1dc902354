"""Steps of a size of their own for every sample of a batch.

Each sample has its own level, step and test of its error, and leaves the batch when it is done: the network
sees fewer and fewer rows, and no sample knows of the samples beside it. Once an attempt the host waits to
hear who is left. What a pair of steps is made of is said on symbols, as in a table, with weights that are
tensors: one for every sample.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Draw
from ...plans.vector import Vector
from ...processes.level import CLEAN, Level, column, per_sample
from ...processes.sde import SDE
from ...spacings.catalogue import steps_of
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, NotDone, begun
from .brownian import LARGEST, _Path


class Solved(NamedTuple):
    """The end of a run, and the number of network calls of each sample, ``(B,)``."""

    x: Tensor
    calls: Tensor


# Of a step: the one of low order and the one of high, and the level that they reach.
Pair = tuple[Vector, Vector, Level[Any]]


class PerSampleIntegrator(Integrator):
    """A step of two orders, low and high, sized for each sample by itself.

    E = rms((high - low) / max(atol, rtol max(|low|, |low before|))), the mean over the sample's numbers, each
    x in units of sqrt(alpha^2 + sigma^2) at its level: a VP process has 1 there, and the others its steps,
    where a tolerance relative to a sigma of 80 would let all pass. If E <= 1 the sample goes on from
    ``high``; and whether or not, its next step is h theta E^-exponent, at most twice h, ``h_max``, and what
    is left of the way. The 2 is ours: one sample's E is 0 by chance now and then, a batch's largest never.
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
        if not 0 < self.theta <= LARGEST:
            raise ValueError(f"theta must be positive and at most {LARGEST}, got {self.theta!r}")

    @property
    @abstractmethod
    def exponent(self) -> float:
        """The step is E^-exponent times as long."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """Network calls of an attempt at a step."""

    @abstractmethod
    def _clock(self, level: Level[float]) -> float:
        """What the steps are measured in; it rises."""

    @abstractmethod
    def _pair(self, samples: "_Samples", sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        """The step of low order and the one of high, from x and the increment w of a Brownian path."""

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run between the ends of the spacing, of at most ``nfe`` network calls for any sample."""
        least = self.attempt + to_clean
        if nfe is not None and nfe < least:
            raise ValueError(f"nfe must be at least {least} for {self}, got {nfe}")
        grid = self._grid(sde, spacing)

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
            RuntimeError: more than ``nfe`` network calls are needed for some sample.
            FloatingPointError: a step so short that it leads nowhere, as when the network is not finite.
        """
        grid = self._grid(sde, spacing)
        last = grid.levels[-1]
        first, goal = self._clock(grid.levels[0]), self._clock(last)
        x, path = x.clone(), _Path(x, noise) if self.stochastic else None
        clock = torch.full((len(x),), first, dtype=torch.float64, device=float64_device(x.device))
        h = torch.full_like(clock, min(self._first_step(first, goal), self.h_max))
        calls = torch.zeros_like(clock, dtype=torch.long)
        before, attempts = x / math.hypot(grid.levels[0].alpha, grid.levels[0].sigma), 0
        while len(rows := (clock < goal).nonzero().flatten()):
            attempts += 1
            if nfe is not None and attempts * self.attempt + to_clean > nfe:
                raise NotDone(
                    f"{self} is not done after {(attempts - 1) * self.attempt} network calls: "
                    f"{len(rows)} of {len(x)} samples are left, the last of them with "
                    f"{(goal - clock.min().item()) / (goal - first):.3g} of its way to go; raise nfe, or the "
                    f"tolerances"
                )
            begin, wanted = clock[rows], h[rows]
            step = torch.minimum(wanted, goal - begin)
            vectors = {"x": x[rows]}
            if path:
                step, vectors["w"] = path.ahead(rows, step)
            end = torch.where(step < goal - begin, begin + step, goal)
            if not (begin + step > begin).all():  # nan, too
                raise FloatingPointError(f"{self} takes steps so short that they lead nowhere")
            samples = _Samples(denoise, rows, vectors)
            low, high, s = self._pair(samples, grid.sde, begin, end)
            unit = (s.alpha**2 + s.sigma**2) ** -0.5
            seen, away = samples.value(unit * low), samples.value(unit * (high - low))
            size = torch.maximum(seen.abs(), before[rows].abs()).mul_(self.rtol).clamp_(min=self.atol)
            error = _rms(away / size)
            good = error <= 1
            kept = per_sample(good.to(x.device), x)
            x[rows] = torch.where(kept, samples.value(high), vectors["x"])
            before[rows] = torch.where(kept, seen, before[rows])
            clock[rows] = torch.where(good, end, begin)
            fit = (step * (self.theta * error**-self.exponent).clamp(max=GROWTH)).clamp(max=self.h_max)
            # A step that the path cut short, and that is good, says nothing against the one that was wanted.
            h[rows] = torch.where(good & (step < wanted), torch.maximum(fit, wanted), fit)
            calls[rows] += self.attempt
            if path:
                path.passed(rows[good])
        return Solved(denoise(x, last), calls + 1) if to_clean else Solved(x, calls)

    def _first_step(self, first: float, goal: float) -> float:
        return self.h_init

    def _grid(self, sde: SDE, spacing: Spacing | str | None) -> Grid:
        return begun(Grid.build(sde, steps_of(spacing) or 1, spacing), str(self))


GROWTH = 2.0


class _Samples:
    """Some samples of a batch, each at a level of its own, and what a step asks of them, on symbols."""

    def __init__(self, denoise: Any, rows: Tensor, vectors: dict[str, Tensor]) -> None:
        self._denoise, self._rows, self._vectors = denoise, rows, dict(vectors)

    def denoise(self, x: Vector, level: Level[Any]) -> Vector:
        """The network's estimates of x_0: one call."""
        name = f"d{len(self._vectors)}"
        self._vectors[name] = self._denoise(self.value(x), level, self._rows)
        return Vector({name: 1.0})

    def value(self, x: Vector) -> Tensor:
        """What a symbol stands for."""
        terms: list[Tensor] = [
            column(weight, self._vectors[name]) * self._vectors[name] for name, weight in x.weights.items()
        ]
        return sum(terms[1:], terms[0])


def _levels(sde: SDE, times: Tensor) -> list[Level[Any]]:
    """The levels at each row of times; rounding must not leave the SDE's."""
    columns = sde.level(times.clamp(sde.t_min, sde.t_max))
    return [Level(*(column[i] for column in columns)) for i in range(len(times))]


def _rms(x: Tensor) -> Tensor:
    """The root mean square of each sample, to fewer digits than the order of a sum, the batch's, decides."""
    x = x.to(float64_device(x.device)).reshape(len(x), -1)
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    return (norm / math.sqrt(x[0].numel())).float().double()
