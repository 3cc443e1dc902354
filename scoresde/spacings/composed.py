"""Spacings made of others: of a part of the range, moved, refined, or one after the other."""

import inspect
import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..integer import integer
from ..processes.sde import SDE
from .formulas import Karras, Spacing, UniformTime, check_positive, ramp
from .lists import OfLength, fixed_steps, times_at, within


def check_spacing(name: str, spacing: object) -> None:
    """TypeError unless something can be a spacing."""
    if isinstance(spacing, type):
        raise TypeError(f"{name}: {spacing.__name__} is a class; call it: {spacing.__name__}()")
    if not callable(spacing):
        raise TypeError(
            f"{name} must be a spacing, a function (sde, n) -> times such as Karras(), got {spacing!r}"
        )
    try:
        inspect.signature(spacing).bind("sde", 1)
    except TypeError as error:
        raise TypeError(f"{name} must be a function (sde, n) -> times, got {spacing!r}: {error}") from None
    except ValueError:  # a function of C, whose arguments Python does not know
        pass


@dataclass(frozen=True)
class Clipped(OfLength):
    """A spacing of the part of the SDE where the half log-SNR is in [lam_min, lam_max] (:meth:`SDE.clip`).

    A run then starts at ``lam_min`` from noise alone, as if nothing of the data were left there.
    """

    spacing: Spacing = field(default_factory=Karras)
    lam_min: float = -math.inf
    lam_max: float = math.inf

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        if not self.lam_min < self.lam_max:
            raise ValueError(f"lam_min must be less than lam_max, got {self.lam_min!r} and {self.lam_max!r}")

    @property
    def steps(self) -> int | None:
        return fixed_steps(self.spacing)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return self.spacing(sde.clip(self.lam_min, self.lam_max), n)


@dataclass(frozen=True)
class Shifted(OfLength):
    """Every level moved by lambda' = lambda - log(shift): sigma / alpha times ``shift``.

    Under a rectified flow this is t' = shift t / (1 + (shift - 1) t), the resolution shift of Stable
    Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, eq. 23): the data of an image of m pixels is hidden at
    sqrt(m / n) times the noise that hides it in an image of n pixels. ``shift`` is positive; above 1 moves
    towards the noise.

    The ends stay. ``spacing`` is used on the part of the SDE's range that the shift keeps inside. One of the
    two ends would move inwards: it stays, so that the step beside it is longer by log(shift). Diffusers moves
    both ends of t, and then adds t = 0.
    """

    spacing: Spacing = field(default_factory=UniformTime)
    shift: float = 3.0

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        check_positive("shift", self.shift)

    @property
    def steps(self) -> int | None:
        return fixed_steps(self.spacing)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        by = math.log(self.shift)
        first, last = sde.lam_ends()
        if not abs(by) < last - first:
            raise ValueError(
                f"shift must keep a part of the range of lambda, [{first:.4g}, {last:.4g}], inside it, got "
                f"{self.shift!r}"
            )
        times = self.spacing(sde.clip(first + max(by, 0.0), last + min(by, 0.0)), n)
        at = times_at(sde, within(sde, sde.lam(times) - by))
        stays = -1 if by > 0 else 0
        at[stays] = times[stays]
        return at


@dataclass(frozen=True)
class Refined(OfLength):
    """Every step cut into ``parts`` of equal length in lambda, or in t where the step begins at alpha = 0.

    ``parts`` is at least 1. For n steps, ``spacing`` makes n // parts, at least 1; where n is no multiple of
    this, the first of them are cut once more.
    """

    spacing: Spacing = field(default_factory=Karras)
    parts: int = 2

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        object.__setattr__(self, "parts", integer("parts", self.parts, 1))

    @property
    def steps(self) -> int | None:
        whole = fixed_steps(self.spacing)
        return whole and whole * self.parts

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check_steps(n)
        steps = fixed_steps(self.spacing) or max(1, n // self.parts)
        times = self.spacing(sde, steps)
        each, more = divmod(n, steps)
        pieces = []
        for i, (t, s) in enumerate(pairwise(zip(times.tolist(), sde.lam(times).tolist(), strict=True))):
            pieces_of_step = each + (i < more)
            in_lam = math.isfinite(t[1])
            inner = ramp(t[in_lam], s[in_lam], pieces_of_step)[1:-1]
            pieces += [times[i : i + 1], sde.time_of(inner) if in_lam else inner]
        return torch.cat([*pieces, times[-1:]])


@dataclass(frozen=True)
class Joined:
    """``noisy`` down to the half log-SNR ``lam``, then ``clean``: two spacings, each of its part of the SDE.

    ``share``, in (0, 1), is the part of the steps that ``noisy`` makes, rounded, but each makes at least one;
    a single step goes from end to end.

    Raises:
        ValueError: a share outside (0, 1); when used, an SDE that does not have ``lam`` between its ends.
    """

    noisy: Spacing
    clean: Spacing
    lam: float
    share: float = 0.5

    def __post_init__(self) -> None:
        check_spacing("noisy", self.noisy)
        check_spacing("clean", self.clean)
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share!r}")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        first, last = sde.lam_ends()
        if not first < self.lam < last:
            raise ValueError(f"lam must be in ({first:.4g}, {last:.4g}) for {sde}, got {self.lam!r}")
        if n == 1:
            return ramp(sde.t_max, sde.t_min, 1)
        before = min(max(round(self.share * n), 1), n - 1)
        upper = self.noisy(sde.clip(-math.inf, self.lam), before)
        lower = self.clean(sde.clip(self.lam, math.inf), n - before)
        return torch.cat([upper[:-1], lower])
