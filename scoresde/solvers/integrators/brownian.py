"""Brownian paths."""

import math
from typing import Any

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Draw
from ...processes.level import column


class _Brownian:
    """Increments of a Brownian path and, asked for, their space-time integrals, one after the other.

    w ~ N(0, h), and u = integral of (w - w_0) = h w / 2 + sqrt(h^3 / 12) z.
    """

    levy_area_approximation = "space-time"

    def __init__(self, y: Tensor, noise: Draw) -> None:
        self.shape, self._noise, self._draws = y.shape, noise, 0

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False) -> Any:
        h = (tb - ta).item()
        w = math.sqrt(h) * self._draw()
        return (w, h / 2 * w + math.sqrt(h**3 / 12) * self._draw()) if return_U else w

    def _draw(self) -> Tensor:
        self._draws += 1
        drawn: Tensor = self._noise(self._draws - 1)
        return drawn.reshape(self.shape)


# A step after one that was refused is shorter than it by more than this, so that a piece of a path which is
# longer than a step by less may be taken whole.
LARGEST = 0.99


class _Path:
    """A Brownian path for every sample: its increments over the pieces that lie ahead.

    The last piece of a sample is the nearest. Below those that are known there is one without end, of which
    nothing is known; so that a step into it is a bridge to a point infinitely far away, N(0, h).
    """

    def __init__(self, x: Tensor, noise: Draw) -> None:
        self._noise, self._draws = noise, 0
        self._length = torch.full((1, len(x)), math.inf, dtype=torch.float64, device=float64_device(x.device))
        self._rise = torch.zeros_like(x)[None]
        self._nearest = torch.zeros_like(self._length[0], dtype=torch.long)

    def ahead(self, rows: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The step that is possible, h or the nearest piece if that is shorter, and the path's increment."""
        if int(self._nearest.max()) + 1 == len(self._length):
            self._length = torch.cat([self._length, torch.zeros_like(self._length[:1])])
            self._rise = torch.cat([self._rise, torch.zeros_like(self._rise[:1])])
        top = self._nearest[rows]
        length, rise = self._length[top, rows], self._rise[top, rows]
        h = torch.where(h > LARGEST * length, length, h)
        share = h / length
        z = self._noise(self._draws)[rows]
        self._draws += 1
        w = column(share, z) * rise + column((h * (1 - share)).sqrt(), z) * z
        # The piece falls in two, of which a step over all of it leaves but one.
        self._length[top, rows], self._rise[top, rows] = length - h, rise - w
        top = top + (h < length)
        self._length[top, rows], self._rise[top, rows] = h, w
        self._nearest[rows] = top
        return h, w

    def passed(self, rows: Tensor) -> None:
        """Leave the nearest piece of these samples behind."""
        self._nearest[rows] -= 1
