"""Where the noise levels of a run lie: functions from an SDE and a number of steps to times.

Every spacing begins at the SDE's ``t_max`` and ends at its ``t_min``, to the last bit; only lists, what is
made of them, and :func:`clipped` have ends of their own. A level is the same thing by its time t, by its r =
sigma / alpha and by its half log-SNR lambda = -log r: ``sde.lam(t)`` and ``sde.time_of(lam)`` convert.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .integer import integer
from .registry import chosen, lookup
from .sde import SDE, Level

# n + 1 times, falling from t_max to t_min, float64.
Spacing = Callable[[SDE, int], Tensor]


def uniform_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in t (Song et al. 2021, arXiv 2011.13456)."""
    return _between_ends(sde, _ramp(sde.t_max, sde.t_min, n))


def quadratic_time(sde: SDE, n: int) -> Tensor:
    """Equal steps in sqrt(t) (Song et al. 2021, arXiv 2010.02502, appendix D.2)."""
    return power_time(2.0)(sde, n)


def power_time(exponent: float = 2.0) -> Spacing:
    """Equal steps in t^(1 / exponent): t_i = (t_max^(1/e) + i/n (t_min^(1/e) - t_max^(1/e)))^e.

    ``exponent`` is positive: above 1 the steps shrink towards the data, below 1 towards the noise; 1 is
    :func:`uniform_time`, 2 :func:`quadratic_time`. DEIS takes its steps so (Zhang and Chen 2023, arXiv
    2204.13902).
    """
    _check_positive("exponent", exponent)

    def spacing(sde: SDE, n: int) -> Tensor:
        root = (sde.t_min / sde.t_max) ** (1 / exponent)
        return _between_ends(sde, sde.t_max * _ramp(1.0, root, n) ** exponent)

    return spacing


def beta(a: float = 0.6, b: float = 0.6) -> Spacing:
    """Equal parts of a Beta(a, b) distribution over t: t_i = t_min + (t_max - t_min) F^-1(1 - i / n).

    ``a`` and ``b`` are positive, F the distribution function: below 1, small steps at the clean (a) and the
    noisy (b) end; 1, 1 is :func:`uniform_time`. Lee et al. 2024 (arXiv 2407.12173). Diffusers'
    ``use_beta_sigmas`` puts the quantiles in sigma in place of t: for this, an :class:`EDM`, whose time is
    sigma.
    """
    _check_positive("a", a)
    _check_positive("b", b)
    from scipy.special import betaincinv

    def spacing(sde: SDE, n: int) -> Tensor:
        quantiles = torch.from_numpy(betaincinv(a, b, _ramp(1.0, 0.0, n).numpy()))
        return _between_ends(sde, sde.t_min + (sde.t_max - sde.t_min) * quantiles)

    return spacing


def uniform_lam(sde: SDE, n: int) -> Tensor:
    """Equal steps in the half log-SNR (Lu et al. 2022, arXiv 2206.00927, section 3.3).

    The same are equal ratios of sigma / alpha, k-diffusion's ``get_sigmas_exponential``.
    """
    return _between_ends(sde, sde.time_of(_ramp(*_lam_ends(sde), n)))


def uniform_sigma(sde: SDE, n: int) -> Tensor:
    """Equal steps in r = sigma / alpha: those of dx / dr = eps, where pure noise is a straight line."""
    return karras(1.0)(sde, n)


def karras(rho: float = 7.0) -> Spacing:
    """Equal steps in r^(1 / rho), r = sigma / alpha (Karras et al. 2022, arXiv 2206.00364, eq. 5).

    r_i = (r_max^(1/rho) + i/n (r_min^(1/rho) - r_max^(1/rho)))^rho. ``rho`` is positive: 1 is
    :func:`uniform_sigma`, infinity would be :func:`uniform_lam`.
    """
    _check_positive("rho", rho)

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        # (r_i / r_max)^(1/rho) - 1, so that no rho overflows, and a large one loses no digits.
        part = _ramp(0.0, math.expm1((first - last) / rho), n)
        return _between_ends(sde, sde.time_of(first - rho * torch.log1p(part)))

    return spacing


def polyexponential(rho: float = 1.0) -> Spacing:
    """lambda_i = lambda_max - (1 - i / n)^rho (lambda_max - lambda_min): a polynomial in log sigma.

    ``rho`` is positive: above 1 the steps shrink towards the data, below 1 towards the noise; 1 is
    :func:`uniform_lam`. k-diffusion (Crowson et al. 2022, ``get_sigmas_polyexponential``).
    """
    _check_positive("rho", rho)

    def spacing(sde: SDE, n: int) -> Tensor:
        first, last = _lam_ends(sde)
        return _between_ends(sde, sde.time_of(last - _ramp(1.0, 0.0, n) ** rho * (last - first)))

    return spacing


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


@torch.no_grad()
def gits(
    denoise: Callable[[Any, Level[float]], Any],
    x: Tensor,
    sde: SDE,
    *,
    fine: int = 60,
    spacing: Spacing | str | None = None,
    coeff: float = 1.15,
) -> Spacing:
    """The best levels of a fine grid for one's own network, by dynamic programming over its trajectories.

    On the fine grid the network is run once, from ``x``. Then cost_ij is how far an Euler step in r = sigma /
    alpha (DDIM) from the state at level i ends from the state at level j, (r_j - r_i) eps_i - (y_j - y_i),
    y = x / alpha: its norm over a sample, averaged over the batch. The n steps are those of least c_1 + coeff
    c_2 + coeff^2 c_3 + ..., c_1 the cost of the first, noisiest, step.

    Chen et al. 2024 (arXiv 2405.11326, GITS, with 60 fine steps and coeff 1.15).
    Their trajectories are Euler's own, for which a fine step costs nothing; ours are DPM-Solver++(3M)'s.

    Args:
        denoise: the network as an estimate of x_0, ``denoise(x, level)``: a Denoiser, or anything alike.
        x: ``(B, ...)``, the states to start from: a few ``sde.prior_sample`` of noise, the more the better.
        sde: the process; the spacing is for it alone.
        fine: steps of the fine grid, the most that the spacing can make, and the network calls this takes.
        spacing: of the fine grid; default, :func:`default_spacing`.
        coeff: positive; above 1, later steps count more.
    """
    from .plan import Plan, iterate  # they are built on spacings
    from .solvers import DPMSolverPP
    from .solvers.common import ddim

    _check_positive("coeff", coeff)
    fine = integer("fine", fine, 1)
    if not x.ndim:
        raise ValueError("x must be states (B, ...), got a single number")
    plan = Plan.make(DPMSolverPP(3), sde, fine, spacing)
    outputs: list[Any] = []

    def recorded(x: Any, level: Level[float]) -> Any:
        outputs.append(denoise(x, level))
        return outputs[-1]

    states = [x, *iterate(plan, recorded, x)]
    levels = [*plan.levels, plan.end]
    cost = np.full((fine + 1, fine + 1), np.inf)
    for j, s in enumerate(levels):
        for i, t in enumerate(levels[:j]):
            miss: Any = ddim(t, s, states[i], outputs[i]) - states[j]
            cost[i, j] = torch.linalg.vector_norm(miss.reshape(len(x), -1), dim=1).mean().item() / s.alpha
    if not np.isfinite(cost[np.triu_indices(fine + 1, 1)]).all():
        raise FloatingPointError("the trajectories of the network are not finite")
    times = torch.tensor([level.t for level in levels], dtype=torch.float64)

    def best(other: SDE, n: int) -> Tensor:
        if other != sde:
            raise ValueError(f"these levels were chosen for {sde}, not for {other}")
        if n > fine:
            raise ValueError(f"n must be at most {fine}, the steps of the fine grid, got {n}; raise fine")
        return times[_cheapest_path(cost, n, coeff)]

    return best


def _cheapest_path(cost: NDArray[np.float64], n: int, coeff: float) -> list[int]:
    """The n steps from the first node to the last of least c_1 + coeff c_2 + coeff^2 c_3 + ..."""
    to_end, choices = cost[:, -1], []
    for _ in range(n - 1):
        through = cost + coeff * to_end
        choices.append(through.argmin(1))
        to_end = through.min(1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, len(cost) - 1]


def default_spacing(sde: SDE) -> Spacing:
    """Equal steps in the half log-SNR, or in t where that has no beginning, for alpha = 0 at t_max."""
    return uniform_lam if math.isfinite(lam_at(sde, sde.t_max)) else uniform_time


def spacing_of(spec: Spacing | str) -> Spacing:
    """A spacing as it is, or by name, with options if wanted: ``"karras:rho=5"``, ``"shifted:spacing=beta"``.

    Raises:
        TypeError: a function that makes spacings, such as ``karras`` where ``karras()`` is meant.
        ValueError: an unknown name or option, or a value that the spacing does not take.
    """
    return chosen("spacing", spec, SPACINGS, gits)


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


def _ramp(first: float, last: float, n: int) -> Tensor:
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


def _between_ends(sde: SDE, times: Tensor) -> Tensor:
    """The times, from t_max to t_min exactly: roundings must not move the ends, nor leave the SDE's times."""
    times[0], times[-1] = sde.t_max, sde.t_min
    return times


def lam_at(sde: SDE, t: float) -> float:
    """The half log-SNR at a time."""
    return sde.lam(torch.tensor(t, dtype=torch.float64)).item()


def _lam_ends(sde: SDE) -> tuple[float, float]:
    first, last = lam_at(sde, sde.t_max), lam_at(sde, sde.t_min)
    if not math.isfinite(first):
        raise ValueError(
            f"{sde} has no half log-SNR at t_max, where alpha = 0; use uniform-t, or clip the SDE"
        )
    return first, last


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


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")


def _check_two(name: str, values: Sequence[float]) -> None:
    if len(values) < 2:
        raise ValueError(f"{name} must be at least 2, got {list(values)}")
