"""The noise levels of a run, as host float64."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..integer import integer
from ..processes.level import CLEAN, Level
from ..processes.sde import SDE
from .catalogue import spacing_of
from .default import default_spacing
from .formulas import Spacing

MOST = 200_000  # steps, lines and network calls of a run


@dataclass(frozen=True)
class Grid:
    """The noise levels of a run, noisiest first.

    Args:
        sde: the process.
        levels: at least two.
    """

    sde: SDE
    levels: tuple[Level[float], ...]

    @classmethod
    def build(
        cls, sde: SDE, steps: int, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> "Grid":
        """The levels of ``steps`` steps.

        Args:
            sde: the process.
            steps: the number of steps.
            spacing: the spacing, or its name; default, :func:`default_spacing`.
            to_clean: the last step goes to sigma = 0.

        Raises:
            TypeError: a process that is not an SDE; a spacing that is neither a function nor a name, or
                returns other things than times; a number of steps that is not an integer.
            ValueError: too few or too many steps; times beyond the range of the SDE, or not strictly falling.
        """
        check_sde(sde)
        spacing = default_spacing(sde) if spacing is None else spacing_of(spacing)
        if (steps := integer("steps", steps)) < 1 + to_clean:
            raise ValueError(f"a grid needs at least {1 + to_clean} steps, got {steps}")
        if steps > MOST:
            raise ValueError(f"a grid has at most {MOST:,} steps, got {steps:,}")
        times = _as_times(spacing(sde, steps - to_clean))
        _check_times(sde, times.tolist())
        return cls(sde, sde.levels(times) + (CLEAN,) * to_clean)

    @cached_property
    def rates(self) -> tuple[tuple[float, float], ...]:
        """(f, g^2) at the first level of each step."""
        t = torch.tensor([level.t for level in self.levels[:-1]], dtype=torch.float64)
        return tuple(zip(self.sde.drift(t).tolist(), self.sde.diffusion2(t).tolist(), strict=True))

    def steps(self) -> Iterator[tuple[Level[float], Level[float]]]:
        """Pairs (t, s): the first level of a step, and the cleaner level at its end."""
        return pairwise(self.levels)

    def singly(self) -> Iterator["Grid"]:
        """Each step as a separate grid."""
        for step, rate in zip(self.steps(), self.rates, strict=True):
            grid = Grid(self.sde, step)
            grid.__dict__["rates"] = (rate,)  # already computed; expensive (autograd)
            yield grid

    def between(self, r: float) -> tuple[Level[float], ...]:
        """In each step, the level at the fraction ``r`` of its length in half log-SNR.

        A step of infinite length has no such level: its entry must not be used.
        """
        lams = [t.lam + r * (s.lam - t.lam) for t, s in self.steps()]
        return self.at([lam if math.isfinite(lam) else 0.0 for lam in lams])

    def at(self, lams: Sequence[float]) -> tuple[Level[float], ...]:
        """The levels of half log-SNRs."""
        return self.sde.levels(self.sde.time_of(torch.tensor(lams, dtype=torch.float64)))


def check_sde(sde: object) -> None:
    """TypeError unless it is an SDE; a class is not."""
    if not isinstance(sde, SDE):
        raise TypeError(f"sde must be an SDE, such as VPSDE(), got {sde!r}")


def check_budget(nfe: int) -> None:
    """ValueError for more network calls than a table may have."""
    if nfe > MOST:
        raise ValueError(f"nfe must be at most {MOST:,}, got {nfe:,}")


def _as_times(given: Any) -> Tensor:
    """The result of a spacing as a tensor."""
    try:
        times = given if isinstance(given, Tensor) else torch.tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        times = torch.empty(0)
    if times.ndim != 1 or len(times) < 2:
        what = f"a tensor of shape {tuple(given.shape)}" if isinstance(given, Tensor) else repr(given)
        raise TypeError(f"spacing must return the times of its levels, at least two, got {what}")
    return times


def _check_times(sde: SDE, times: list[float]) -> None:
    slack = 1e-9 * (sde.t_max - sde.t_min)  # rounding of an inverse
    for t, s in pairwise(times):
        if not t > s:
            raise ValueError(f"times must strictly fall, got {t!r} before {s!r}")
    for t in times:
        if not sde.t_min - slack <= t <= sde.t_max + slack:
            raise ValueError(f"times must be in [{sde.t_min}, {sde.t_max}], got {t!r}")
