"""A denoiser of one process, used under another."""

from typing import Any

import torch
from torch import Tensor, nn

from ..devices import exact
from ..processes.catalogue import sde_of
from ..processes.level import Level, cast, per_sample
from ..processes.sde import SDE
from .conditions import Condition
from .protocol import DenoiserLike, Wrapper, as_denoiser


class Transported(Wrapper, nn.Module):
    """A denoiser trained under one SDE, used under another: D(alpha' / alpha x, t'), lam equal at t and t'.

    x_t / alpha_t has the same law at equal sigma / alpha under all SDEs (Karras et al. 2022, arXiv
    2206.00364, section 2). The attribute ``sde`` is the new process on the part of its time that the network
    was trained on.

    Args:
        denoiser: the denoiser, trained under its ``sde``.
        sde: the other process, or its name.

    Raises:
        ValueError: the two processes have no sigma / alpha in common.
    """

    def __init__(self, denoiser: DenoiserLike, sde: SDE | str) -> None:
        super().__init__()
        self.denoiser = as_denoiser(denoiser)
        trained = self.denoiser.sde
        ends = torch.tensor([trained.t_max, trained.t_min], dtype=torch.float64)
        # The property below hides a plain attribute; fingerprints know it by this name.
        vars(self)["sde"] = sde_of(sde).clip(*trained.lam(ends).tolist())

    @property
    def sde(self) -> SDE:
        """The new process, on the part of its time that the network was trained on."""
        sde: SDE = vars(self)["sde"]
        return sde

    def at(self, dtype: torch.dtype | None) -> "Transported":
        """The denoiser inside in another precision, under the same new process."""
        return Transported(self.denoiser.at(dtype), self.sde)

    def forward(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        """x: ``(B, ...)``; level: floats, or tensors ``(B,)``, of the new process; returns ``(B, ...)``."""
        trained = self.denoiser.sde
        level = Level(*(exact(number) if isinstance(number, Tensor) else number for number in level))
        time = trained.time_of(torch.as_tensor(level.lam, dtype=torch.float64))
        own: Level[Any] = trained.level(time.clamp(trained.t_min, trained.t_max))
        if not isinstance(level.lam, Tensor):
            own = Level(*torch.stack(own).tolist())
        scale = cast(per_sample(own.alpha / level.alpha, x), x)
        estimate: Tensor = self.denoiser(scale * x, own, cond)
        return estimate
