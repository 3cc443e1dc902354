"""The distribution of the times at which a network is trained."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..processes.sde import SDE
from ..registry import as_floats

# From (sde, u), u uniform in [0, 1), ``(B,)`` float64: times, and factors on the loss. The factors are
# importance weights; they are 1 where the density of the times is part of the objective.
TimeSampling = Callable[[SDE, Tensor], tuple[Tensor, Tensor]]


def stratified(u: Tensor) -> Tensor:
    """B numbers at equal distances, from the first of ``(B,)`` uniform numbers: (u_0 + i / B) mod 1.

    Each number is uniform in [0, 1), and their mean has a small variance (Kingma et al. 2021, arXiv
    2107.00630, app. I.1).
    """
    return (u[:1] + torch.arange(len(u), dtype=u.dtype) / len(u)) % 1


@dataclass(frozen=True)
class Uniform:
    """t uniform in [t_min, t_max]."""

    def __call__(self, sde: SDE, u: Tensor) -> tuple[Tensor, Tensor]:
        return sde.t_min + u * (sde.t_max - sde.t_min), torch.ones_like(u)


@dataclass(frozen=True)
class LogNormal:
    """log(sigma / alpha) normal (Karras et al. 2022, arXiv 2206.00364, Table 1), within the SDE's range.

    The distribution is truncated at the ends of the range; no mass moves onto them. Its density is part of
    the objective, as a weighting is.

    Args:
        mean: of log(sigma / alpha), finite.
        std: of log(sigma / alpha), positive and finite.

    Raises:
        ValueError: a ``mean`` or ``std`` outside its range; later, an SDE whose range holds less than 1e-9 of
            this distribution.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        as_floats(self, "mean", "std")
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise ValueError(
                f"mean must be finite and std positive and finite, got {self.mean!r} and {self.std!r}"
            )

    def __call__(self, sde: SDE, u: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = self.mean, self.std
        ends = -sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
        low, high = (0.5 * (1 + torch.erf((ends - mean) / (std * math.sqrt(2))))).tolist()
        if not high - low > 1e-9:
            raise ValueError(
                f"log(sigma / alpha) with mean {mean} and std {std} has less than 1e-9 of its mass in "
                f"[{ends[0]:.4g}, {ends[1]:.4g}], the range of {sde}"
            )
        logs = mean + std * torch.special.ndtri(low + u * (high - low))
        return sde.time_of(-logs.clamp(*ends.tolist())).clamp(sde.t_min, sde.t_max), torch.ones_like(u)


@dataclass(frozen=True)
class Importance:
    """Density proportional to g^2 / sigma^2, for the likelihood weighting, whose terms then have equal size.

    Song et al. 2021, arXiv 2101.09258, section 4. g^2 / sigma^2 = -2 dlam / dt, so lam is uniform, for every
    SDE. The factor is the density of uniform times over this density: the expected loss is that of uniform
    times.
    """

    def __call__(self, sde: SDE, u: Tensor) -> tuple[Tensor, Tensor]:
        cleanest, noisiest = sde.lam(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)).tolist()
        if not math.isfinite(noisiest):
            raise ValueError(f"importance sampling needs alpha > 0 at t_max; clip {sde} first")
        t = sde.time_of(noisiest + u * (cleanest - noisiest)).clamp(sde.t_min, sde.t_max)
        slope = sde.diffusion2(t) / (2 * sde.sigma(t) ** 2)  # -dlam / dt
        return t, (cleanest - noisiest) / ((sde.t_max - sde.t_min) * slope)


TIME_SAMPLINGS: dict[str, Any] = {
    "uniform": Uniform,
    "log-normal": LogNormal,
    "importance": Importance,
}
