"""Spacings made of other spacings: clipped, shifted, refined, joined."""

import inspect
import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..integer import integer
from ..processes.catalogue import sde_of
from ..processes.sde import SDE
from ..registry import as_floats
from .formulas import Karras, Spacing, UniformTime, check_positive, ramp
from .lists import OfLength, fixed_steps, times_at, within


def check_spacing(name: str, spacing: object) -> None:
    """TypeError unless ``spacing`` can be called as a spacing."""
    if isinstance(spacing, type):
        raise TypeError(f"{name}: {spacing.__name__} is a class; call it: {spacing.__name__}()")
    if not callable(spacing):
        raise TypeError(
            f"{name} must be a spacing, a function (sde, n) -> times such as Karras(), got {spacing!r}"
        )
    if inspect.isfunction(spacing):  # of the user's; the classes of this package need no check
        try:
            inspect.signature(spacing).bind("sde", 1)
        except TypeError as error:
            raise TypeError(
                f"{name} must be a function (sde, n) -> times, got {spacing!r}: {error}"
            ) from None


@dataclass(frozen=True)
class Clipped(OfLength):
    """A spacing of the part of the SDE where the half log-SNR is in [lam_min, lam_max] (:meth:`SDE.clip`).

    A run then starts at ``lam_min`` from pure noise, as if no data were left there.

    Args:
        spacing: the spacing of this part.
        lam_min: less than ``lam_max``.
        lam_max: greater than ``lam_min``; both may be infinite.

    Raises:
        TypeError: ``spacing`` is not a spacing.
        ValueError: ``lam_min`` is not less than ``lam_max``.
    """

    spacing: Spacing = field(default_factory=Karras)
    lam_min: float = -math.inf
    lam_max: float = math.inf

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        if not self.lam_min < self.lam_max:
            raise ValueError(f"lam_min must be less than lam_max, got {self.lam_min!r} and {self.lam_max!r}")
        as_floats(self, "lam_min", "lam_max")

    @property
    def steps(self) -> int | None:
        return fixed_steps(self.spacing)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        return self.spacing(sde.clip(self.lam_min, self.lam_max), n)


@dataclass(frozen=True)
class Shifted(OfLength):
    """Each level moved by lambda' = lambda - log(shift): sigma / alpha times ``shift``.

    Under a rectified flow this is t' = shift t / (1 + (shift - 1) t), the resolution shift of Stable
    Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, eq. 23): noise that hides an image of n pixels must be
    sqrt(m / n) times as large to hide an image of m pixels.

    The ends stay. ``spacing`` is used on the part of the SDE's range that stays inside the range after the
    shift. One of the two ends would move inwards: it stays, so the step beside it is longer by log(shift).
    Diffusers moves both ends of t, and then adds t = 0.

    Args:
        spacing: the spacing to move.
        shift: positive; above 1 moves towards the noise.

    Raises:
        TypeError: ``spacing`` is not a spacing.
        ValueError: a shift that is not positive and finite; when used, one that leaves no part of the range.
    """

    spacing: Spacing = field(default_factory=UniformTime)
    shift: float = 3.0

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        check_positive("shift", self.shift)
        as_floats(self, "shift")

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
    """Each step cut into ``parts`` of equal length in lambda, or in t where the step begins at alpha = 0.

    For n steps, ``spacing`` makes n // parts steps, at least 1. If n is not a multiple of this number, the
    first steps have one part more.

    Args:
        spacing: the spacing to refine.
        parts: at least 1.

    Raises:
        TypeError: ``spacing`` is not a spacing, or ``parts`` not an integer.
        ValueError: fewer than 1 part.
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
class Under(OfLength):
    """The levels of a spacing under another process: at each level, the same sigma / alpha.

    The other process is clipped to the range of sigma / alpha of the run (:meth:`SDE.clip`). Where the other
    process does not reach an end of the run, the levels end with the other process, as in :class:`Clipped`;
    alpha = 0 is reached only by a process with alpha = 0.

    Args:
        spacing: the spacing.
        sde: the other process, or its name.

    Raises:
        TypeError: ``spacing`` is not a spacing, or ``sde`` not a process.
        ValueError: when used, two processes that have no sigma / alpha in common.
    """

    spacing: Spacing
    sde: SDE

    def __post_init__(self) -> None:
        check_spacing("spacing", self.spacing)
        object.__setattr__(self, "sde", sde_of(self.sde))

    @property
    def steps(self) -> int | None:
        return fixed_steps(self.spacing)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        try:
            other = self.sde.clip(*sde.lam_ends())
        except ValueError:
            raise ValueError(f"{self.sde} has no sigma / alpha in common with {sde}") from None
        # At sigma / alpha = 1e9, a time near 1 holds lambda to 1e-7 only.
        return times_at(sde, within(sde, other.lam(self.spacing(other, n)), 1e-6))


@dataclass(frozen=True)
class Joined:
    """``noisy`` down to the half log-SNR ``lam``, then ``clean``: two spacings, each of its part of the SDE.

    A single step goes from end to end.

    Args:
        noisy: the spacing of the noisy part.
        clean: the spacing of the clean part.
        lam: the half log-SNR where the parts meet.
        share: the share of the steps in the noisy part, in (0, 1); rounded, with at least one step in each.

    Raises:
        TypeError: ``noisy`` or ``clean`` is not a spacing.
        ValueError: a share outside (0, 1); when used, a ``lam`` that is not between the ends of the SDE.
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
        as_floats(self, "lam", "share")

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
