"""DPM-Solver-12 and 23 and adaptive Euler-Maruyama, with one step size per sample."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...plans.vector import Vector
from ...processes.level import Level
from ...processes.sde import SDE
from ..moves import eps_of, move, score_of
from .per_sample import Pair, PerSampleIntegrator, Samples, levels_at


@dataclass(frozen=True)
class DPMAdaptive(PerSampleIntegrator):
    """DPM-Solver-12 or 23: the noise as in :class:`~scoresde.solvers.DPMSolver`, steps in lam by their error.

    Order 2 is the pair DPM-Solver-1 and 2 (r_1 = 1/2), order 3 the pair 2 (r_1 = 1/3) and 3 (1/3, 2/3). An
    attempt is ``order`` network calls. Lu et al. 2022 (arXiv 2206.00927, appendix C). Their code takes the
    largest error of the batch for all samples. Here every sample has its own error, and is the same sample
    alone or in a batch.

    Args:
        order: 2 or 3, the order of the step that is accepted.
        rtol: relative tolerance on x.
        atol: absolute tolerance on x, for data in [-1, 1].
        h_init: the first step in lam.
        theta: the safety factor on the step, at most 0.99.
        h_max: the longest step in lam; not in the paper. In pure noise every step is accepted and steps grow:
            without a limit the next step could pass over the levels at which the data takes shape. In one
            dimension its two orders then agree by chance; images hardly need the limit.
    """

    order: int = 2
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    theta: float = 0.9
    h_max: float = 1.5
    stochastic = False

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {self.order!r}")
        super().__post_init__()

    @property
    def exponent(self) -> float:
        """1 / order."""
        return 1 / self.order

    @property
    def calls_per_attempt(self) -> int:
        """Network calls of an attempt at a step."""
        return self.order

    def time(self, level: Level[float]) -> float:
        """lam."""
        return level.lam

    def embedded_pair(self, samples: Samples, sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        """DPM-Solver-1 and 2, or 2 and 3, on the same network calls."""
        h = end - begin
        inner = (1 / 2,) if self.order == 2 else (1 / 3, 2 / 3)
        times = sde.time_of(torch.stack([begin, *(begin + r * h for r in inner), end]))
        t, m, *_, s = levels_at(sde, times)
        x = Vector({"x": 1.0})
        e = eps_of(t, x, samples.denoise(x, t))
        u = move(t, m, x, e)
        e1 = eps_of(m, u, samples.denoise(u, m))
        if self.order == 2:
            return move(t, s, x, e), move(t, s, x, e1), s
        m2, k = levels_at(sde, times)[2], 2 * h / 3
        u2 = move(t, m2, x, e) - 2 * m2.sigma * (torch.expm1(k) / k - 1) * (e1 - e)
        e2 = eps_of(m2, u2, samples.denoise(u2, m2))
        bend = 1.5 * s.sigma * (torch.expm1(h) / h - 1)
        return move(t, s, x, e + 1.5 * (e1 - e)), move(t, s, x, e) - bend * (e2 - e), s


@dataclass(frozen=True)
class AdaptiveSDE(PerSampleIntegrator):
    """Euler-Maruyama and improved Euler on the reverse SDE, steps in t by their error.

    Low order: x' = x - h (f x - g^2 score) + g w, all at t. High order:
    x'' = (x' + x - h (f x' - g^2 score) + g w) / 2 with f, g and the score at (x', t - h); w ~ N(0, h). Each
    attempt makes two network calls.
    Jolicoeur-Martineau et al. 2021 (arXiv 2105.14080). Their code tries a refused step again with fresh
    noise. Large noise is refused more often, so the noise of their runs is too small. Here w is the
    increment of one Brownian path: after a refused step the shorter step takes its part of the same
    increment, by a Brownian bridge, and later steps take the rest.

    Args:
        rtol: relative tolerance on x, eps_rel of the paper.
        atol: absolute tolerance on x, eps_abs of the paper, for data in [-1, 1].
        h_init: the first step, as a fraction of the whole time.
        theta: the safety factor on the step, at most 0.99.
        r: the exponent in h <- theta h E^-r, in [1/2, 1].
    """

    rtol: float = 0.02
    atol: float = 0.0078
    h_init: float = 0.01
    theta: float = 0.9
    r: float = 0.9
    stochastic = True
    calls_per_attempt = 2

    def __post_init__(self) -> None:
        if not 0.5 <= self.r <= 1:
            raise ValueError(f"r must be in [0.5, 1], got {self.r!r}")
        super().__post_init__()

    @property
    def exponent(self) -> float:
        """r."""
        return self.r

    def time(self, level: Level[float]) -> float:
        """-t."""
        return -level.t

    def first_step(self, begin: float, goal: float) -> float:
        """The fraction ``h_init`` of the whole time."""
        return self.h_init * (goal - begin)

    def embedded_pair(self, samples: Samples, sde: SDE, begin: Tensor, end: Tensor) -> Pair:
        """Euler-Maruyama, and the mean of it and a second step with the drift and noise at its end."""
        times = torch.stack([-begin, -end])
        t, s = levels_at(sde, times)
        x, w, h = Vector({"x": 1.0}), Vector({"w": 1.0}), end - begin
        rates: Any = tuple(zip(sde.drift(times), sde.diffusion2(times), strict=True))

        def euler(i: int, at: Level[Any], y: Vector) -> Any:
            """A step from x, with the drift and the noise of y at a level."""
            f, g2 = rates[i]
            drift = f * y - g2 * score_of(at, y, samples.denoise(y, at))
            return x - drift * h + g2.sqrt() * w

        low = euler(0, t, x)
        return low, (low + euler(1, s, low)) / 2, s
