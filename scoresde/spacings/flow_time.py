"""Equal steps in a power of the time of rectified flow: many levels where structure forms."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..processes.continuous import softplus
from ..processes.sde import SDE
from ..registry import as_floats
from .formulas import between_ends, check_positive, ramp

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class FlowTime:
    """Equal steps in u^(1 / exponent), u = r / (c + r), r = sigma / alpha, c = scale * deviation.

    u_i = (u_max^(1/e) + i/n (u_min^(1/e) - u_max^(1/e)))^e. u is the time of rectified flow for data in units
    of c. The density of the levels over lambda is a bump with its top at r = c / e: few levels where there is
    noise alone, few where the data is nearly clean. The run may begin at alpha = 0, where u = 1.

    On :class:`RectifiedFlow` with c = 1 it is :class:`PowerTime`. The limit of large c is :class:`Karras`
    with rho = e; the limit of small c has equal steps in alpha / sigma.

    Args:
        exponent: e, positive.
        scale: c in deviations of the data, positive. About 1 for mixtures of a few normal distributions, 2 to
            8 for images, whose fine details are much smaller than their deviation.
        deviation: the standard deviation of the data, positive.

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
        ends = torch.tensor(sde.lam_ends(), dtype=torch.float64)
        first, last = (-softplus(ends + log_c)).tolist()  # log u
        # (u_i / u_max)^(1/e) - 1: near u = 1 this keeps the digits of 1 - u.
        part = ramp(0.0, math.expm1((last - first) / self.exponent), n)
        log_u = first + self.exponent * torch.log1p(part)
        lams = torch.log(-torch.expm1(log_u)) - log_u - log_c  # log((1 - u) / (c u))
        return between_ends(sde, sde.time_of(lams))

    def shares(self, u: Numbers) -> Numbers:
        """The share of the levels that are noisier than some; 0 at the first one, 1 at the last one.

        Args:
            u: sigma / (alpha + sigma), falling.
        """
        root: Numbers = (u / (self.scale * self.deviation * (1 - u) + u)) ** (1 / self.exponent)
        made: Numbers = (root[0] - root) / (root[0] - root[-1])
        return made
