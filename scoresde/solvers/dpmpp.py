"""Multistep DPM-Solver++."""

from dataclasses import dataclass
from math import expm1, isinf

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .moves import check_eta, transition_mean, transition_noise


@dataclass(frozen=True)
class DPMSolverPP:
    """Multistep DPM-Solver++ on the data; with eta > 0 its SDE form.

    x_s = (sigma_s / sigma_t) exp(-eta h) x + alpha_s (1 - exp(-k)) D + n, k = (1 + eta) h. 1M: D = d. 2M: D =
    d + h / 2 d' with d' = (d - d_before) / h_before. 3M: D is the mean of the parabola through three outputs
    under the kernel of the exact solution. The noise n is sigma_s sqrt(1 - exp(-2 eta h)) z.

    One network call a step. A step from alpha = 0 or to sigma = 0 is of order 1. The first steps have fewer
    outputs, so the order is at most 2. On :class:`UniformLambda`, where the outputs of the first steps hardly
    change, the errors of 3M fall with order 3 until they are very small. With noise the order is weak. Lu et
    al. 2022 (arXiv 2211.01095, Algorithm 2 and appendices).

    Args:
        multistep: 1, 2 or 3: the number of outputs of a step.
        eta: the scale of the noise, at least 0: 0 is the probability-flow ODE, 1 the reverse SDE.
        form: the weight of the first difference in 2M. ``"midpoint"``: as published, the D above. ``"heun"``:
            exact for outputs that are linear in lam.
        published: give the second difference of 3M the weight of the authors' code, half of the exact one.
            It is then never of order 3. At 8 calls or fewer it is often better, because it amplifies the
            errors of the network less.
    """

    multistep: int = 2
    eta: float = 0.0
    form: str = "midpoint"
    published: bool = False

    def __post_init__(self) -> None:
        if self.multistep not in (1, 2, 3):
            raise ValueError(f"multistep must be 1, 2 or 3, got {self.multistep!r}")
        if self.form not in ("midpoint", "heun"):
            raise ValueError(f"form must be midpoint or heun, got {self.form!r}")
        check_eta(self.eta)

    @property
    def order(self) -> int:
        """Of convergence; weak, with noise."""
        return min(self.multistep, 2)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        past: list[tuple[float, Vector]] = []  # h and the output of each step, latest first
        for t, s in grid.steps():
            h, d = s.lam - t.lam, tape.denoise(x, t)
            new = transition_mean(t, s, x, d, self.eta)
            k, terms = (1 + self.eta) * h, 0 if isinf(h) else min(self.multistep, 1 + len(past))
            phi = 1.0 if isinf(h) else expm1(-k) / k + 1
            if terms == 2:
                weight = -expm1(-k) / 2 if self.form == "midpoint" else phi
                new = new + s.alpha * weight * h * _slope(d, past[0])
            elif terms == 3:
                (h1, d1), (h2, _) = past
                slope, slope1 = _slope(d, past[0]), _slope(d1, past[1])
                bend = (slope - slope1) / (h1 + h2)  # half the second derivative of the data in lam
                weight = (1.0 if self.published else 2.0) * (phi / k - 0.5)
                new = new + s.alpha * h * (phi * (slope + h1 * bend) - weight * h * bend)
            past = [] if isinf(h) else [(h, d), *past][:2]
            x = tape.state(new + transition_noise(tape, t, s, self.eta))
        return x


def _slope(d: Vector, before: tuple[float, Vector]) -> Vector:
    """The derivative of the data in lam, by the output before."""
    return (d - before[1]) / before[0]
