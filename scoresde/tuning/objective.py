"""The objective of the fit: robust end-point errors, and the energies in bands."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..devices import exact
from .bands import Bands

ROBUST_CUTOFF = 4.0  # k: errors above k times the best initial table's mean count less


@dataclass(frozen=True, eq=False)
class Objective:
    """(1 / M) sum_m rho(e_m) / c^2 + (gamma^2 / 2) sum_b log(E_b / E*_b)^2 + mu |theta|^2.

    e_m is the mean square difference of end and target of sample m. rho(e) = k c^2 log(1 + e / (k c^2)) if
    ``robust``, so that a few samples that no short run can follow do not decide; otherwise rho(e) = e. E_b
    are the energies of :class:`Bands`; their term keeps the variance that least squares shrinks.

    Args:
        scale: c^2.
        bands: the bands and the energies E* of the targets; None for no bands.
        gamma: the weight of the bands.
        ridge: mu; :class:`Fit` adds this term.
        robust: which rho.
    """

    scale: float
    bands: Bands | None
    gamma: float = 1.0
    ridge: float = 1e-4
    robust: bool = True

    def value(self, errors: Tensor, energies: Tensor | None) -> float:
        """The objective without the ridge, from e ``(M,)`` and E ``(bands,)``."""
        errors = exact(errors) / self.scale
        total = (ROBUST_CUTOFF * torch.log1p(errors / ROBUST_CUTOFF) if self.robust else errors).mean()
        if self.bands is not None and energies is not None:
            total = total + self.gamma**2 / 2 * (energies / self.bands.energy).log().square().sum()
        return float(total)

    def sample_weights(self, errors: Tensor) -> Tensor:
        """rho'(e), the weight of each sample in a Gauss-Newton step, ``(M,)``."""
        return 1 / (1 + errors / (ROBUST_CUTOFF * self.scale)) if self.robust else torch.ones_like(errors)
