"""Steps of a size of their own for every sample of a batch.

Each sample has its own level, step and test of its error, and leaves the batch when it is done: the network
sees fewer and fewer rows, and no sample knows of the samples beside it. Once an attempt the host waits to
hear who is left. What a pair of steps is made of is said on symbols, as in a table, with weights that are
tensors: one for every sample.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .blackbox import BlackBox, NotDone, Run, begun
from .denoiser import _cast, _per_sample
from .devices import float64_device
from .grid import Grid
from .plan import Draw, Vector
from .sde import CLEAN, SDE, Level
from .solvers.common import eps_of, move, score_of
from .spacings import Spacing, listed_steps


class Solved(NamedTuple):
    """The end of a run, and the number of network calls of each sample, ``(B,)``."""

    x: Tensor
    calls: Tensor


# Of a step: the one of low order and the one of high, and the level that they reach.
Pair = tuple[Vector, Vector, Level[Any]]


class PerSample(BlackBox):
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
    ) -> Run:
        """The run between the ends of the spacing, of at most ``nfe`` network calls for any sample."""
        least = self.attempt + to_clean
        if nfe is not None and nfe < least:
            raise ValueError(f"nfe must be at least {least} for {self}, got {nfe}")
        grid = self._grid(sde, spacing)

        def integrate(denoise: Any, x: Tensor, noise: Draw) -> Tensor:
            return self.carry_out(denoise, x, noise, sde, nfe, spacing, to_clean=to_clean).x

        return Run(grid.levels[0], CLEAN if to_clean else grid.levels[-1], None, integrate, self.stochastic)

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
        """A run from x, ``(B, ...)``; ``denoise`` as in :class:`Run`, ``noise(i)`` draw i for all samples.

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
            kept = _per_sample(good.to(x.device), x)
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
        return begun(Grid.build(sde, listed_steps(spacing) or 1, spacing), str(self))


# A step after one that was refused is shorter than it by more than this, so that a piece of a path which is
# longer than a step by less may be taken whole.
LARGEST = 0.99
GROWTH = 2.0


@dataclass(frozen=True)
class DPMAdaptive(PerSample):
    """DPM-Solver-12 or 23: the noise as in :class:`~scoresde.solvers.DPMSolver`, steps of lam by their error.

    Order 2 is the pair DPM-Solver-1 and 2 (r_1 = 1/2), order 3 the pair 2 (r_1 = 1/3) and 3 (1/3, 2/3); an
    attempt is ``order`` network calls. Lu et al. 2022 (arXiv 2206.00927, appendix C). Their code takes the
    largest error of the batch for all its samples; here every sample has its own, and a sample alone is the
    same sample.

    Args:
        order: 2 or 3, of the step that is kept.
        rtol, atol: tolerances on x, atol for data in [-1, 1].
        h_init: the first step in lam.
        theta: the share of the step that the error would allow, at most 0.99.
        h_max: the longest step in lam, and ours. Where there is noise alone all steps are good, and so they
            grow; the next could pass over the levels at which the data takes shape, all of them between two
            network calls, and in one dimension its two orders then agree by chance. Images feel little of it.
    """

    order: int = 2
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    theta: float = 0.9
    h_max: float = 1.5
    stochastic = False

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {self.order!r}")
        super().__post_init__()

    @property
    def exponent(self) -> float:
        """Of the step in the error: 1 / order."""
        return 1 / self.order

    @property
    def attempt(self) -> int:
        """Network calls of an attempt at a step."""
        return self.order

    def _clock(self, level: Level[float]) -> float:
        return level.lam

    def _pair(self, samples: "_Samples", sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        h = end - begin
        inner = (1 / 2,) if self.order == 2 else (1 / 3, 2 / 3)
        times = sde.time_of(torch.stack([begin, *(begin + r * h for r in inner), end]))
        t, m, *_, s = _levels(sde, times)
        x = Vector({"x": 1.0})
        e = eps_of(t, x, samples.denoise(x, t))
        u = move(t, m, x, e)
        e1 = eps_of(m, u, samples.denoise(u, m))
        if self.order == 2:
            return move(t, s, x, e), move(t, s, x, e1), s
        m2, k = _levels(sde, times)[2], 2 * h / 3
        u2 = move(t, m2, x, e) - 2 * m2.sigma * (torch.expm1(k) / k - 1) * (e1 - e)
        e2 = eps_of(m2, u2, samples.denoise(u2, m2))
        bend = 1.5 * s.sigma * (torch.expm1(h) / h - 1)
        return move(t, s, x, e + 1.5 * (e1 - e)), move(t, s, x, e) - bend * (e2 - e), s


@dataclass(frozen=True)
class AdaptiveSDE(PerSample):
    """Euler-Maruyama and its improved form on the reverse SDE, steps of t by their error.

    x' = x - h (f x - g^2 score) + g w at t; x'' = (x' + x - h (f x' - g^2 score) + g w) / 2 with f, g and the
    score at (x', t - h), which is kept; w ~ N(0, h). Two network calls an attempt. Jolicoeur-Martineau et al.
    2021 (arXiv 2105.14080). There a refused step is tried again with fresh noise, which leaves too little of
    it: noise that is large is refused more often. Here w is of one Brownian path: the shorter step has its
    part of the refused one, by a bridge, and later steps the rest.

    Args:
        rtol, atol: tolerances on x, the paper's eps_rel and eps_abs, atol for data in [-1, 1].
        h_init: the first step, as a share of all the time.
        theta: the share of the step that the error would allow, at most 0.99.
        r: h <- theta h E^-r, in [1/2, 1].
    """

    rtol: float = 0.02
    atol: float = 0.0078
    h_init: float = 0.01
    theta: float = 0.9
    r: float = 0.9
    stochastic = True
    attempt = 2

    def __post_init__(self) -> None:
        if not 0.5 <= self.r <= 1:
            raise ValueError(f"r must be in [0.5, 1], got {self.r!r}")
        super().__post_init__()

    @property
    def exponent(self) -> float:
        """Of the step in the error: r."""
        return self.r

    def _clock(self, level: Level[float]) -> float:
        return -level.t

    def _first_step(self, first: float, goal: float) -> float:
        return self.h_init * (goal - first)

    def _pair(self, samples: "_Samples", sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        times = torch.stack([-begin, -end])
        t, s = _levels(sde, times)
        x, w, h = Vector({"x": 1.0}), Vector({"w": 1.0}), end - begin
        rates: Any = tuple(zip(sde.drift(times), sde.diffusion2(times), strict=True))

        def euler(i: int, at: Level[Any], y: Vector) -> Any:
            """From x, with drift and noise those of y at a level."""
            f, g2 = rates[i]
            drift = f * y - g2 * score_of(at, y, samples.denoise(y, at))
            return x - drift * h + g2.sqrt() * w

        low = euler(0, t, x)
        return low, (low + euler(1, s, low)) / 2, s


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
            _column(weight, self._vectors[name]) * self._vectors[name] for name, weight in x.weights.items()
        ]
        return sum(terms[1:], terms[0])


class _Path:
    """A Brownian path for every sample: its increments over the pieces that lie ahead.

    The last piece of a sample is the nearest. Below those that are known there is one without end, of which
    nothing is known; so that a step into it is a bridge to a point infinitely far away, N(0, h).
    """

    def __init__(self, x: Tensor, noise: Draw) -> None:
        self._noise, self._draws = noise, 0
        self._length = torch.full((1, len(x)), math.inf, dtype=torch.float64, device=float64_device(x.device))
        self._rise = torch.zeros_like(x)[None]
        self._nearest = torch.zeros_like(self._length[0], dtype=torch.long)

    def ahead(self, rows: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The step that is possible, h or the nearest piece if that is shorter, and the path's increment."""
        if int(self._nearest.max()) + 1 == len(self._length):
            self._length = torch.cat([self._length, torch.zeros_like(self._length[:1])])
            self._rise = torch.cat([self._rise, torch.zeros_like(self._rise[:1])])
        top = self._nearest[rows]
        length, rise = self._length[top, rows], self._rise[top, rows]
        h = torch.where(h > LARGEST * length, length, h)
        share = h / length
        z = self._noise(self._draws)[rows]
        self._draws += 1
        w = _column(share, z) * rise + _column((h * (1 - share)).sqrt(), z) * z
        # The piece falls in two, of which a step over all of it leaves but one.
        self._length[top, rows], self._rise[top, rows] = length - h, rise - w
        top = top + (h < length)
        self._length[top, rows], self._rise[top, rows] = h, w
        self._nearest[rows] = top
        return h, w

    def passed(self, rows: Tensor) -> None:
        """Leave the nearest piece of these samples behind."""
        self._nearest[rows] -= 1


def _levels(sde: SDE, times: Tensor) -> list[Level[Any]]:
    """The levels at each row of times; rounding must not leave the SDE's."""
    columns = sde.level(times.clamp(sde.t_min, sde.t_max))
    return [Level(*(column[i] for column in columns)) for i in range(len(times))]


def _column(weight: Any, like: Tensor) -> Any:
    """A number for every sample, in the shape and the type that its vector has; a float as it is."""
    return _cast(_per_sample(weight, like), like)


def _rms(x: Tensor) -> Tensor:
    """The root mean square of each sample, to fewer digits than the order of a sum, the batch's, decides."""
    x = x.to(float64_device(x.device)).reshape(len(x), -1)
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    return (norm / math.sqrt(x[0].numel())).float().double()
