"""Levels of another program, and a check that levels lie on a process."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..processes.level import CLEAN, Level
from ..processes.sde import SDE
from ..spacings.lists import times_at, within

SINGLE = 1e-5  # in lambda: the rounding of another program that computes its levels in float32


def levels_at(sde: SDE, sigmas: Any, alphas: Any = 1.0) -> tuple[Level[float], ...]:
    """The levels of a process at the sigma / alpha of another program.

    Only lambda = log(alpha / sigma) determines a level. Its t, alpha and sigma are the values of ``sde`` at
    this lambda. A level within 1e-5 of an end of the process, in lambda, becomes this end.

    Args:
        sde: the process of the run.
        sigmas: ``(n,)``, at least two, noisiest first. The last one may be 0, the clean level.
        alphas: ``(n,)``, or one number for all. The first one may be 0.

    Raises:
        TypeError: ``sigmas`` or ``alphas`` are not numbers.
        ValueError: other shapes, a number that is negative or not finite, or a level beyond the ends of the
            process.
    """
    sigma, alpha = _numbers("sigmas", sigmas), _numbers("alphas", alphas)
    if sigma.ndim != 1 or len(sigma) < 2 or alpha.shape not in ((), sigma.shape):
        raise ValueError(
            f"sigmas must be at least 2 numbers, and alphas one or as many, got shapes {tuple(sigma.shape)} "
            f"and {tuple(alpha.shape)}"
        )
    for name, part in (("sigmas", sigma), ("alphas", alpha)):
        for number in part.flatten().tolist():
            if not 0 <= number < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {number!r}")
    lams = alpha.log() - sigma.log()
    noisy = lams[:-1] if sigma[-1] == 0 else lams
    levels = sde.levels(times_at(sde, within(sde, noisy, SINGLE)))
    return levels + (CLEAN,) * (len(sigma) - len(noisy))


def as_levels(given: Iterable[Any]) -> tuple[Level[float], ...]:
    """Levels of Python numbers; TypeError unless each is a :class:`Level` or four numbers."""
    try:
        return tuple([Level(*map(float, level)) for level in given])
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"levels must be Levels, each of four numbers: t, alpha, sigma and lambda; got "
            f"{type(given).__name__}: {error}"
        ) from None


def _numbers(name: str, given: Any) -> Tensor:
    """Numbers of another program in float64, on the host; TypeError unless they are numbers."""
    try:
        return torch.as_tensor(given, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        what = str(error).partition("\n")[0]
        raise TypeError(f"{name} must be numbers, got {type(given).__name__}: {what}") from None


def check_run(sde: SDE, levels: Sequence[Level[float]]) -> None:
    """ValueError unless a run can have these levels: at least two, lambda rising, each on the process."""
    if len(levels) < 2:
        raise ValueError(f"levels must be at least 2, got {len(levels)}")
    for t, s in pairwise(levels):
        if not (t.lam < s.lam and t.sigma > 0):
            raise ValueError(f"levels must strictly rise in lambda, got {t.lam!r} before {s.lam!r}")
    slack = 1e-9 * (sde.t_max - sde.t_min)  # rounding of an inverse
    for level in levels:
        if level != CLEAN and not sde.t_min - slack <= level.t <= sde.t_max + slack:
            raise ValueError(f"levels must have t in [{sde.t_min}, {sde.t_max}], got {level.t!r}")
    if (off := outside(sde, levels)) is not None:
        raise ValueError(f"levels must lie on {sde}, got {tuple(off)}")


def outside(sde: SDE, levels: Iterable[Level[float]]) -> Level[float] | None:
    """The first level whose alpha, sigma and lambda differ from the process at its t; None if all agree."""
    for level in levels:
        own = sde.level(torch.tensor(level.t, dtype=torch.float64))
        near = all(
            math.isclose(a, float(b), rel_tol=1e-6, abs_tol=1e-9)
            for a, b in zip(level[1:3], own[1:3], strict=True)
        )
        if level != CLEAN and not (near and math.isclose(level.lam, float(own.lam), abs_tol=SINGLE)):
            return level
    return None
