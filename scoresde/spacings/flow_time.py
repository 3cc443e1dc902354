"""Equal steps in a power of the time of rectified flow: many levels where structure forms."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..processes.sde import SDE
from ..registry import as_floats
from .formulas import between_ends, check_positive, ramp

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class FlowTime:
    """Equal steps in u^(1 / exponent), u = r / (c + r), r = sigma / alpha.

    u is the time of rectified flow for data in units of c. The density of the levels over lambda is a bump
    around log(1 / c): few levels are where there is noise alone, few where the data is nearly clean. At
    exponent 1 it is symmetric; above 1 it moves towards the data. The run may begin at alpha = 0, where u =
    1. On :class:`RectifiedFlow` with c = 1 it is :class:`PowerTime`.

    Args:
        exponent: positive.
        scale: c in deviations of the data, positive. About 1 for mixtures of few normal distributions, 2 to 8
            for images: their finest details decide.
        deviation: the standard deviation of the data, positive; c = scale * deviation.

    Raises:
        ValueError: a number that is not positive and finite.
    """

    exponent: float = 2.0
    scale: float = 1.0
    deviation: float = 1.0

    def __post_init__(self) -> None:
        for name in ("exponent", "scale", "deviation"):
            check_positive(name, getattr(self, name))
        as_floats(self, "exponent", "scale", "deviation")
        check_positive("scale * deviation", self.scale * self.deviation)

    def __call__(self, sde: SDE, n: int) -> Tensor:
        log_c = math.log(self.scale * self.deviation)
        # log u at the ends; -infinity would need r = 0, which no process reaches.
        first, last = (-_softplus(lam + log_c) for lam in sde.lam_ends())
        root = ramp(math.exp(first / self.exponent), math.exp(last / self.exponent), n)
        log_u = self.exponent * root[1:-1].log()
        lams = torch.log(-torch.expm1(log_u)) - log_u - log_c  # log((1 - u) / (c u))
        ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
        return between_ends(sde, torch.cat([ends[:1], sde.time_of(lams), ends[1:]]))

    def shares(self, u: Numbers) -> Numbers:
        """The share of the levels that are noisier than some; 0 at the first one, 1 at the last one.

        Args:
            u: sigma / (alpha + sigma), falling.
        """
        root: Numbers = (u / (self.scale * self.deviation * (1 - u) + u)) ** (1 / self.exponent)
        return (root[0] - root) / (root[0] - root[-1])


def _softplus(x: float) -> float:
    """log(1 + e^x) in full precision; 0 at -infinity."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
