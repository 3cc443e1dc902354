"""Where the noise levels of a run lie: functions from an SDE and a number of steps to times.

Every spacing begins at the SDE's ``t_max`` and ends at its ``t_min``, to the last bit; only lists, what is
made of them, and :func:`clipped` have ends of their own. A level is the same thing by its time t, by its r =
sigma / alpha and by its half log-SNR lambda = -log r: ``sde.lam(t)`` and ``sde.time_of(lam)`` convert.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..integer import integer
from ..processes.sde import SDE, lam_at
from ..registry import chosen, lookup
from .formulas import (
    Spacing,
    _check_positive,
    _ramp,
    beta,
    karras,
    polyexponential,
    power_time,
    quadratic_time,
    uniform_lam,
    uniform_sigma,
    uniform_time,
)

# sigma / alpha, as published, to three decimals.
ALIGN_YOUR_STEPS: dict[str, tuple[float, ...]] = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


def align_your_steps(model: str = "sd15") -> Spacing:
    """Levels optimised for a model: Stable Diffusion 1.5 ("sd15"), SDXL ("sdxl"), Video Diffusion ("svd").

    Sabour et al. 2024 (arXiv 2404.14507, and the lists of 10 steps published with it). Another number of
    steps is linear in log(sigma / alpha) over the index, as they publish. The levels are those of the list,
    whatever the SDE, and its ends are the run's; an end that is the SDE's to the three published decimals is
    taken as that.

    Raises:
        ValueError: an unknown model; when used, an SDE whose range the list leaves.
    """
    lookup("model", model, ALIGN_YOUR_STEPS)
    ratios = torch.tensor(ALIGN_YOUR_STEPS[model], dtype=torch.float64)

    def spacing(sde: SDE, n: int) -> Tensor:
        lams = _within(sde, -ratios.log(), 5e-4 / ratios)
        index = _ramp(0.0, len(lams) - 1.0, n).numpy()
        return _times_at(sde, torch.from_numpy(np.interp(index, np.arange(len(lams)), lams.numpy())))

    return spacing


@dataclass(frozen=True)
class _Listed:
    """Values that make one run, and their times."""

    values: tuple[float, ...]
    times: Callable[[SDE, Tensor], Tensor]

    @property
    def steps(self) -> int:
        return len(self.values) - 1

    def __call__(self, sde: SDE, n: int) -> Tensor:
        if n != self.steps:
            raise ValueError(f"{len(self.values)} listed times make {self.steps} steps, not {n}")
        return self.times(sde, torch.tensor(self.values, dtype=torch.float64))


def listed(times: Sequence[float]) -> Spacing:
    """The user's own times, noisiest first, used as they are; the number of steps is one less."""
    _check_two("times", times)
    return _Listed(tuple(times), _unchanged)


def listed_lams(lams: Sequence[float]) -> Spacing:
    """The user's own half log-SNRs, rising; as :func:`listed`.

    Raises:
        ValueError: fewer than 2, or not rising; when used, an SDE whose range they leave.
    """
    _check_two("lams", lams)
    for t, s in pairwise(lams):
        if not t < s:
            raise ValueError(f"lams must strictly rise, got {t!r} before {s!r}")
    return _Listed(tuple(lams), _times_of_list)


def listed_sigmas(sigmas: Sequence[float]) -> Spacing:
    """The user's own sigma / alpha, falling and positive; as :func:`listed`. An end at 0 is ``to_clean``.

    Raises:
        ValueError: fewer than 2, not falling or not positive; when used, an SDE whose range they leave.
    """
    _check_two("sigmas", sigmas)
    for t, s in pairwise(sigmas):
        if not t > s > 0:
            raise ValueError(f"sigmas must strictly fall and be positive, got {t!r} before {s!r}")
    return listed_lams([-math.log(sigma) for sigma in sigmas])


@dataclass(frozen=True)
class _Fixed:
    """What is made of a list: it, too, makes ``steps`` steps and no other number."""

    steps: int
    spacing: Spacing

    def __call__(self, sde: SDE, n: int) -> Tensor:
        if n != self.steps:
            raise ValueError(f"a spacing made of listed times makes {self.steps} steps, not {n}")
        return self.spacing(sde, n)


def listed_steps(spacing: Spacing | str | None) -> int | None:
    """The number of steps that listed times make; None for a spacing that makes any."""
    spacing = None if spacing is None else spacing_of(spacing)
    return spacing.steps if isinstance(spacing, _Listed | _Fixed) else None


def clipped(
    spacing: Spacing | str = "karras", lam_min: float = -math.inf, lam_max: float = math.inf
) -> Spacing:
    """A spacing of the part of the SDE where the half log-SNR is in [lam_min, lam_max] (:meth:`SDE.clip`).

    A run then starts at ``lam_min`` from noise alone, as if nothing of the data were left there.
    """
    if not lam_min < lam_max:
        raise ValueError(f"lam_min must be less than lam_max, got {lam_min!r} and {lam_max!r}")
    whole = spacing_of(spacing)
    return _as_long_as(whole, lambda sde, n: whole(sde.clip(lam_min, lam_max), n))


def shifted(spacing: Spacing | str = "uniform-t", shift: float = 3.0) -> Spacing:
    """Every level moved by lambda' = lambda - log(shift): sigma / alpha times ``shift``.

    Of a rectified flow this is t' = shift t / (1 + (shift - 1) t), the resolution shift of Stable Diffusion 3
    (Esser et al. 2024, arXiv 2403.03206, eq. 23): an image of m pixels hides its data at shift = sqrt(m / n)
    times the noise that hides it in one of n. ``shift`` is positive; above 1 moves towards the noise.

    The ends stay. What would leave the SDE's range is not asked for: ``spacing`` is that of the part of the
    range that the shift keeps inside; and of its two ends the one that would move inwards remains, so that
    the step beside it is longer by log(shift). Diffusers moves both ends of t, and then adds t = 0.
    """
    _check_positive("shift", shift)
    by, whole = math.log(shift), spacing_of(spacing)

    def moved(sde: SDE, n: int) -> Tensor:
        first, last = (lam_at(sde, t) for t in (sde.t_max, sde.t_min))
        if not abs(by) < last - first:
            raise ValueError(
                f"shift must keep a part of the range of lambda, [{first:.4g}, {last:.4g}], inside it, got "
                f"{shift!r}"
            )
        times = whole(sde.clip(first + max(by, 0.0), last + min(by, 0.0)), n)
        at = _times_at(sde, _within(sde, sde.lam(times) - by))
        stays = -1 if by > 0 else 0
        at[stays] = times[stays]
        return at

    return _as_long_as(whole, moved)


def refined(spacing: Spacing | str = "karras", parts: int = 2) -> Spacing:
    """Every step cut into ``parts`` of equal length in lambda, or in t where the step begins at alpha = 0.

    ``parts`` is at least 1. Of n steps, ``spacing`` makes n // parts, at least 1, and where n is no multiple
    the first of them are cut once more.
    """
    parts = integer("parts", parts, 1)
    whole, listed = spacing_of(spacing), listed_steps(spacing)

    def finer(sde: SDE, n: int) -> Tensor:
        steps = listed or max(1, n // parts)
        times = whole(sde, steps)
        each, more = divmod(n, steps)
        pieces = []
        for i, (t, s) in enumerate(pairwise(zip(times.tolist(), sde.lam(times).tolist(), strict=True))):
            pieces_of_step = each + (i < more)
            in_lam = math.isfinite(t[1])
            ramp = _ramp(t[in_lam], s[in_lam], pieces_of_step)[1:-1]
            pieces += [times[i : i + 1], sde.time_of(ramp) if in_lam else ramp]
        return torch.cat([*pieces, times[-1:]])

    return _Fixed(listed * parts, finer) if listed else finer


def joined(noisy: Spacing | str, clean: Spacing | str, lam: float, share: float = 0.5) -> Spacing:
    """``noisy`` down to the half log-SNR ``lam``, then ``clean``: two spacings, each of its part of the SDE.

    ``share``, in (0, 1), is the part of the steps that ``noisy`` makes, rounded, but each makes at least one;
    a single step goes from end to end.

    Raises:
        ValueError: a share outside (0, 1); when used, an SDE that does not have ``lam`` between its ends.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share!r}")
    noisier, cleaner = spacing_of(noisy), spacing_of(clean)

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = (lam_at(sde, t) for t in (sde.t_max, sde.t_min))
        if not first < lam < last:
            raise ValueError(f"lam must be in ({first:.4g}, {last:.4g}) for {sde}, got {lam!r}")
        if n == 1:
            return _ramp(sde.t_max, sde.t_min, 1)
        before = min(max(round(share * n), 1), n - 1)
        upper, lower = noisier(sde.clip(-math.inf, lam), before), cleaner(sde.clip(lam, math.inf), n - before)
        return torch.cat([upper[:-1], lower])

    return spacing


def spacing_of(spec: Spacing | str) -> Spacing:
    """A spacing as it is, or by name, with options if wanted: ``"karras:rho=5"``, ``"shifted:spacing=beta"``.

    Raises:
        TypeError: a function that makes spacings, such as ``karras`` where ``karras()`` is meant.
        ValueError: an unknown name or option, or a value that the spacing does not take.
    """
    return chosen("spacing", spec, SPACINGS)


SPACINGS: dict[str, Callable[..., Spacing]] = {
    "uniform-t": lambda: uniform_time,
    "quadratic-t": lambda: quadratic_time,
    "power-t": power_time,
    "beta": beta,
    "uniform-lambda": lambda: uniform_lam,
    "uniform-sigma": lambda: uniform_sigma,
    "karras": karras,
    "polyexponential": polyexponential,
    "align-your-steps": align_your_steps,
    "listed": listed,
    "listed-lambda": listed_lams,
    "listed-sigma": listed_sigmas,
    "shifted": shifted,
    "clipped": clipped,
    "refined": refined,
    "joined": joined,
}


def _within(sde: SDE, lams: Tensor, slack: Tensor | float = 1e-9) -> Tensor:
    """The half log-SNRs, an end of the SDE's where they miss it by ``slack`` or less; none beyond."""
    first, last = (lam_at(sde, t) for t in (sde.t_max, sde.t_min))
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


def _ratio(lam: float) -> float:
    """sigma / alpha."""
    return math.exp(-lam) if lam > -700 else math.inf


def _times_at(sde: SDE, lams: Tensor) -> Tensor:
    """The times of half log-SNRs that the SDE has; at its ends, exactly the ends."""
    times = sde.time_of(lams).clamp(sde.t_min, sde.t_max)
    times[lams == lam_at(sde, sde.t_max)] = sde.t_max
    times[lams == lam_at(sde, sde.t_min)] = sde.t_min
    return times


def _unchanged(sde: SDE, times: Tensor) -> Tensor:
    return times


def _times_of_list(sde: SDE, lams: Tensor) -> Tensor:
    return _times_at(sde, _within(sde, lams))


def _as_long_as(spacing: Spacing, made: Spacing) -> Spacing:
    """``made``, of one length if the spacing that it is made of is."""
    steps = listed_steps(spacing)
    return made if steps is None else _Fixed(steps, made)


def _check_two(name: str, values: Sequence[float]) -> None:
    if len(values) < 2:
        raise ValueError(f"{name} must be at least 2, got {list(values)}")
