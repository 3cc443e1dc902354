"""The step-size controller of the integrators with one step size per sample."""

from dataclasses import dataclass

import torch
from torch import Tensor

# The largest growth of a step; not in the papers. The error E of one sample is 0 by chance now and then, and
# its next step would be infinite. The papers take the largest error of a batch, which is never 0.
GROWTH = 2.0

# The largest theta. The step after a refused one is then shorter than it by at least 1 %, so that
# :class:`BrownianPath` can tell a piece that is to be taken whole from a piece that a step divides.
LARGEST_THETA = 0.99


@dataclass(frozen=True)
class Controller:
    """The next step is h theta E^-exponent, at most 2 h and at most ``h_max``; E is the error of a step h."""

    theta: float
    exponent: float
    h_max: float

    def next_step(self, step: Tensor, wanted: Tensor, error: Tensor, accepted: Tensor) -> Tensor:
        """The next step of each sample, of the ``step`` that was taken and the one that was ``wanted``."""
        fit = (step * (self.theta * error**-self.exponent).clamp(max=GROWTH)).clamp(max=self.h_max)
        # A step that the path cut short, and that is accepted, is no reason to shorten the wanted one.
        return torch.where(accepted & (step < wanted), torch.maximum(fit, wanted), fit)
