"""The VP process of DDPM, defined by a list of betas, for networks trained on numbered steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..devices import exact
from .continuous import VPSDE, check_range, softplus
from .level import T


def _linear(first: float, last: float, steps: int) -> Tensor:
    """Ho et al. 2020 (arXiv 2006.11239, section 4)."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def _scaled_linear(first: float, last: float, steps: int) -> Tensor:
    """Linear in sqrt(beta): latent diffusion (Rombach et al. 2022, arXiv 2112.10752)."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2


def _cosine(first: float, last: float, steps: int) -> Tensor:
    """Nichol and Dhariwal 2021 (arXiv 2102.09672, eq. 17), beta at most 0.999; ignores first and last."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    kept = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)


BETAS: dict[str, Callable[[float, float, int], Tensor]] = {
    "linear": _linear,
    "scaled-linear": _scaled_linear,
    "cosine": _cosine,
}


@dataclass(frozen=True)
class DiscreteVPSDE(VPSDE):
    """The VP SDE through DDPM's noise levels, alpha_t^2 = prod_i (1 - beta_i), log alpha linear between them.

    Step i = 0 .. steps - 1 is the time t = (i + 1) / steps. A network receives the label ``t steps - 1``: i
    at step i, a fraction between two steps. The interpolation is from Lu et al. (2022, arXiv 2206.00927,
    appendix D.4).

    Args:
        beta_min: the beta of the first step.
        beta_max: the beta of the last step.
        t_min: default, the first step of 1000; set it to 1 / steps for another number of steps.
        t_max: at most 1.
        schedule: ``"linear"``, ``"scaled-linear"`` or ``"cosine"``, which ignores the two betas.
        steps: the number of steps.

    Raises:
        ValueError: an unknown schedule, fewer than 2 steps, betas outside
            1e-12 <= beta_min < beta_max <= 0.9999, or times outside 1 / steps <= t_min < t_max <= 1.
    """

    beta_min: float = 1e-4
    beta_max: float = 0.02
    t_min: float = 1e-3
    t_max: float = 1.0
    schedule: str = "linear"
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.schedule not in BETAS:
            raise ValueError(f"schedule must be one of {', '.join(BETAS)}, got {self.schedule!r}")
        if not (isinstance(self.steps, int) and self.steps >= 2):
            raise ValueError(f"steps must be an integer of at least 2, got {self.steps!r}")
        check_range(self, "beta", self.beta_min, self.beta_max, 1e-12, 0.9999)
        check_range(self, "t", self.t_min, self.t_max, 1 / self.steps * (1 - 1e-12), 1.0)

    @cached_property
    def _log_alphas(self) -> Tensor:
        """log alpha at t = 0, 1/steps, ..., 1."""
        betas = BETAS[self.schedule](self.beta_min, self.beta_max, self.steps)
        return torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * torch.log1p(-betas).cumsum(0)])

    def label(self, t: T) -> T:
        return t * self.steps - 1

    def log_alpha(self, t: Tensor) -> Tensor:
        place = exact(t) * self.steps
        table = self._log_alphas.to(place.device)
        below = place.detach().clamp(0, self.steps - 1).long()
        return (table[below] + (place - below) * (table[below + 1] - table[below])).to(t.dtype).to(t.device)

    def time_of(self, lam: Tensor) -> Tensor:
        log_alpha = exact(-0.5 * softplus(-2 * lam))
        table = self._log_alphas.to(log_alpha.device)
        below = (torch.searchsorted(-table, -log_alpha) - 1).clamp(0, self.steps - 1)
        place = below + (log_alpha - table[below]) / (table[below + 1] - table[below])
        return (place / self.steps).to(lam.dtype).to(lam.device)
