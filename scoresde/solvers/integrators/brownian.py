"""Brownian paths, drawn while a solver steps along them.

The increment w over a time h is N(0, h). Two classes, for two different questions. torchsde asks for one
increment after the other, of a whole batch, and for their integrals; it never goes back. A solver with one
step size per sample refuses steps: every sample needs the part of its path that was drawn and not yet passed.
One class for both would store parts of the path that torchsde never reads again.
"""

import math
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ...devices import float64_device
from ...plans.executor import Draw
from ...processes.level import column
from .controller import LARGEST_THETA


class BrownianIncrements:
    """Successive increments w of a path and, on request, their space-time integrals u; as torchsde asks.

    w = sqrt(h) z, and u, the integral of the path over the step from its value at the beginning, is
    h w / 2 + sqrt(h^3 / 12) z'. z and z' are standard normal and independent.
    """

    levy_area_approximation = "space-time"

    def __init__(self, y: Tensor, noise: Draw) -> None:
        self.shape, self._draws = y.shape, map(noise, count())

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False) -> Any:
        h = (tb - ta).item()
        w = math.sqrt(h) * self._normal()
        return (w, h / 2 * w + math.sqrt(h**3 / 12) * self._normal()) if return_U else w

    def _normal(self) -> Tensor:
        drawn: Tensor = next(self._draws)
        return drawn.reshape(self.shape)


class BrownianPath:
    """One path per sample, stored as the increments over the pieces that lie ahead.

    A step over the share r of a piece of length l and increment b is a Brownian bridge: N(r b, h (1 - r)),
    h = r l. The last stored piece of a sample is the nearest one. The first one is infinitely long: a step
    into it has r = 0, and is an unconditioned increment N(0, h).
    """

    def __init__(self, x: Tensor, noise: Draw) -> None:
        self._draws = map(noise, count())
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
        # The step after a refused one is shorter by more than this: a nearly whole piece is taken whole.
        h = torch.where(h > LARGEST_THETA * length, length, h)
        share = h / length
        z = next(self._draws)[rows]
        w = column(share, z) * rise + column((h * (1 - share)).sqrt(), z) * z
        # The step divides the piece in two; a step over the whole piece leaves one.
        self._length[top, rows], self._rise[top, rows] = length - h, rise - w
        top = top + (h < length)
        self._length[top, rows], self._rise[top, rows] = h, w
        self._nearest[rows] = top
        return h, w

    def passed(self, rows: Tensor) -> None:
        """Leave the nearest piece of these samples behind."""
        self._nearest[rows] -= 1
