"""Spacings by a list of levels: the user's, or a published one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..processes.sde import SDE
from ..registry import lookup
from .formulas import Spacing, ramp

# sigma / alpha, as published, to three decimals.
ALIGN_YOUR_STEPS: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@dataclass(frozen=True)
class AlignYourSteps:
    """Levels optimised for a model: Stable Diffusion 1.5 ("sd15"), SDXL ("sdxl"), Video Diffusion ("svd").

    Sabour et al. 2024 (arXiv 2404.14507, and the lists of 10 steps published with it). For another number of
    steps, log(sigma / alpha) is interpolated linearly over the index, as they publish. The run has the levels
    and the ends of the list, whatever the SDE. An end equal to the SDE's to the three published decimals
    becomes the SDE's end.

    Args:
        model: ``"sd15"``, ``"sdxl"`` or ``"svd"``.

    Raises:
        ValueError: an unknown model; when used, a list beyond the range of the SDE.
    """

    model: str = "sd15"

    def __post_init__(self) -> None:
        lookup("model", self.model, ALIGN_YOUR_STEPS)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        ratios = torch.tensor(ALIGN_YOUR_STEPS[self.model], dtype=torch.float64)
        lams = within(sde, -ratios.log(), 5e-4 / ratios)
        index = ramp(0.0, len(lams) - 1.0, n).numpy()
        return times_at(sde, torch.from_numpy(np.interp(index, np.arange(len(lams)), lams.numpy())))


class OfLength(ABC):
    """A spacing that may be limited to one number of steps."""

    @property
    @abstractmethod
    def steps(self) -> int | None:
        """The only number of steps; None if there is no limit."""

    def check_steps(self, n: int) -> None:
        """ValueError for another number of steps."""
        if self.steps not in (None, n):
            raise ValueError(f"listed levels make {self.steps} steps, not {n}")


def fixed_steps(spacing: Spacing | None) -> int | None:
    """The only number of steps of a spacing; None for a spacing of any number."""
    return spacing.steps if isinstance(spacing, OfLength) else None


@dataclass(frozen=True)
class AtTimes(OfLength):
    """Given times, noisiest first, used as they are.

    Args:
        times: at least two; a run has one step less.

    Raises:
        ValueError: fewer than 2 times.
    """

    times: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", _at_least_two("times", self.times))

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check_steps(n)
        return torch.tensor(self.times, dtype=torch.float64)


@dataclass(frozen=True)
class AtLambdas(OfLength):
    """Given half log-SNRs, rising.

    Args:
        lams: at least two; a run has one step less.

    Raises:
        ValueError: fewer than 2, or not rising; when used, one beyond the range of the SDE.
    """

    lams: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "lams", _at_least_two("lams", self.lams))
        for t, s in pairwise(self.lams):
            if not t < s:
                raise ValueError(f"lams must strictly rise, got {t!r} before {s!r}")

    @property
    def steps(self) -> int:
        return len(self.lams) - 1

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check_steps(n)
        return times_at(sde, within(sde, torch.tensor(self.lams, dtype=torch.float64)))


@dataclass(frozen=True)
class AtSigmas(OfLength):
    """Given sigma / alpha, falling and positive. For an end at 0, use ``to_clean``.

    Args:
        sigmas: at least two; a run has one step less.

    Raises:
        ValueError: fewer than 2, not falling or not positive; when used, one beyond the range of the SDE.
    """

    sigmas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigmas", _at_least_two("sigmas", self.sigmas))
        for t, s in pairwise(self.sigmas):
            if not t > s > 0:
                raise ValueError(f"sigmas must strictly fall and be positive, got {t!r} before {s!r}")

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check_steps(n)
        return AtLambdas([-math.log(sigma) for sigma in self.sigmas])(sde, n)


def within(sde: SDE, lams: Tensor, slack: Tensor | float = 1e-9) -> Tensor:
    """The half log-SNRs, with each that is within ``slack`` of an end of the SDE moved to this end.

    Raises:
        ValueError: a half log-SNR beyond the ends of the SDE.
    """
    first, last = sde.lam_ends()
    for end in (first, last):
        lams = torch.where((lams - end).abs() <= slack, end, lams)
    for lam in lams.tolist():
        if not first <= lam <= last:
            raise ValueError(
                f"levels must be in [{first:.6g}, {last:.6g}] of lambda for {sde}, sigma / alpha in "
                f"[{_ratio(last):.6g}, {_ratio(first):.6g}], got lambda = {lam:.6g}, sigma / alpha = "
                f"{_ratio(lam):.6g}; use an SDE whose range of times is wider, or leave the level out"
            )
    return lams


def times_at(sde: SDE, lams: Tensor) -> Tensor:
    """The times of half log-SNRs within the range of the SDE; at its ends exactly ``t_max`` and ``t_min``."""
    times = sde.time_of(lams).clamp(sde.t_min, sde.t_max)
    first, last = sde.lam_ends()
    times[lams == first] = sde.t_max
    times[lams == last] = sde.t_min
    return times


def _ratio(lam: float) -> float:
    """sigma / alpha."""
    return math.exp(-lam) if lam > -700 else math.inf


def _at_least_two(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if len(values) < 2:
        raise ValueError(f"{name} must be at least 2, got {list(values)}")
    return tuple(map(float, values))
