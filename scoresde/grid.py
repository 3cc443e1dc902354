"""The noise levels of a run, as host float64."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from .sde import CLEAN, SDE, Level

# n + 1 times, falling from t_max to t_min, float64.
Spacing = Callable[[SDE, int], Tensor]


def uniform_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in t (Song et al. 2021, arXiv 2011.13456)."""
    return _ramp(sde.t_max, sde.t_min, n)


def quadratic_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in sqrt(t) (Song et al. 2021, arXiv 2010.02502, appendix D.2)."""
    return _ramp(sde.t_max**0.5, sde.t_min**0.5, n) ** 2


def uniform_lam(sde: SDE, n: int) -> Tensor:
    """Equal steps in the half log-SNR (Lu et al. 2022, arXiv 2206.00927, section 3.3)."""
    return sde.time_of(_ramp(*_ends(sde), n))


def karras(rho: float = 7.0) -> Spacing:
    """Equal steps in (sigma / alpha)^(1 / rho) (Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
    if not 0 < rho < math.inf:
        raise ValueError(f"rho must be positive and finite, got {rho!r}")

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = (math.exp(-lam / rho) for lam in _ends(sde))
        return sde.time_of(-rho * torch.log(_ramp(first, last, n)))

    return spacing


@dataclass(frozen=True)
class _Listed:
    times: tuple[float, ...]

    def __call__(self, sde: SDE, n: int) -> Tensor:
        if n != len(self.times) - 1:
            raise ValueError(f"{len(self.times)} listed times make {len(self.times) - 1} steps, not {n}")
        return torch.tensor(self.times, dtype=torch.float64)


def listed(times: Sequence[float]) -> Spacing:
    """The user's own times, noisiest first, used as they are; the number of steps is one less."""
    if len(times) < 2:
        raise ValueError(f"times must be at least 2, got {list(times)}")
    return _Listed(tuple(times))


def listed_steps(spacing: Spacing | None) -> int | None:
    """The number of steps that listed times make; None for a spacing that makes any."""
    return len(spacing.times) - 1 if isinstance(spacing, _Listed) else None


SPACINGS: dict[str, Callable[..., Spacing]] = {
    "uniform-t": lambda: uniform_time,
    "quadratic-t": lambda: quadratic_time,
    "uniform-lambda": lambda: uniform_lam,
    "karras": karras,
    "listed": listed,
}


def default_spacing(sde: SDE) -> Spacing:
    """Equal steps in the half log-SNR, or in t where that has no beginning, for alpha = 0 at t_max."""
    return uniform_lam if math.isfinite(_lam_at(sde, sde.t_max)) else uniform_time


@dataclass(frozen=True)
class Grid:
    """Noise levels, noisiest first."""

    sde: SDE
    levels: tuple[Level[float], ...]

    @classmethod
    def build(cls, sde: SDE, steps: int, spacing: Spacing, *, to_clean: bool = False) -> "Grid":
        """``steps`` steps by ``spacing``, the last of them to sigma = 0 if ``to_clean``.

        Raises:
            TypeError: a spacing that is no function.
            ValueError: too few steps, or times that leave the SDE's or do not strictly fall.
        """
        if not callable(spacing):
            raise TypeError(f"spacing must be a function (sde, n) -> times, as karras(), got {spacing!r}")
        if steps < 1 + to_clean:
            raise ValueError(f"a grid needs at least {1 + to_clean} steps, got {steps}")
        times = spacing(sde, steps - to_clean)
        _check_times(sde, times.tolist())
        columns = sde.level(times)
        levels = tuple(Level(*row) for row in torch.stack(columns, 1).tolist())
        return cls(sde, levels + (CLEAN,) * to_clean)

    @cached_property
    def rates(self) -> tuple[tuple[float, float], ...]:
        """(f, g^2) at every level that a step leaves."""
        t = torch.tensor([level.t for level in self.levels[:-1]], dtype=torch.float64)
        return tuple(zip(self.sde.drift(t).tolist(), self.sde.diffusion2(t).tolist(), strict=True))

    def steps(self) -> Iterator[tuple[Level[float], Level[float]]]:
        """Pairs (t, s): the level that a step leaves, and the cleaner one that it reaches."""
        return pairwise(self.levels)

    def singly(self) -> Iterator["Grid"]:
        """Each step as a grid of its own."""
        for step, rate in zip(self.steps(), self.rates, strict=True):
            grid = Grid(self.sde, step)
            grid.__dict__["rates"] = (rate,)  # known already, and dear
            yield grid

    def between(self, r: float) -> tuple[Level[float], ...]:
        """Of every step, the level a fraction ``r`` of the way in half log-SNR.

        A step to or from infinity has none: what stands there is of no use.
        """
        lams = [t.lam + r * (s.lam - t.lam) for t, s in self.steps()]
        return self.at([lam if math.isfinite(lam) else 0.0 for lam in lams])

    def at(self, lams: Sequence[float]) -> tuple[Level[float], ...]:
        """The levels of half log-SNRs."""
        columns = self.sde.level(self.sde.time_of(torch.tensor(lams, dtype=torch.float64)))
        return tuple(Level(*row) for row in torch.stack(columns, 1).tolist())


def _ramp(first: float, last: float, n: int) -> Tensor:
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


def _lam_at(sde: SDE, t: float) -> float:
    return sde.lam(torch.tensor(t, dtype=torch.float64)).item()


def _ends(sde: SDE) -> tuple[float, float]:
    first, last = _lam_at(sde, sde.t_max), _lam_at(sde, sde.t_min)
    if not math.isfinite(first):
        raise ValueError(
            f"{sde} has no half log-SNR at t_max, where alpha = 0; use uniform-t, or clip the SDE"
        )
    return first, last


def _check_times(sde: SDE, times: list[float]) -> None:
    slack = 1e-9 * (sde.t_max - sde.t_min)  # rounding of an inverse
    for t, s in pairwise(times):
        if not t > s:
            raise ValueError(f"times must strictly fall, got {t!r} before {s!r}")
    for t in times:
        if not sde.t_min - slack <= t <= sde.t_max + slack:
            raise ValueError(f"times must be in [{sde.t_min}, {sde.t_max}], got {t!r}")
