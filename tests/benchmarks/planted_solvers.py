"""Solvers with one fault each."""

import math
from dataclasses import dataclass, replace

from scoresde.solvers import DDIM
from scoresde.solvers.integrators.base import Integrator
from scoresde.solvers.integrators.ode import ODE
from scoresde.solvers.moves import ddim


@dataclass(frozen=True)
class SwappedHistory:
    """Adams-Bashforth with its history in the wrong order: exact on a point mass, and of order 1."""

    order = 2

    def solve(self, tape, x, grid):
        before = None
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.state(ddim(t, s, x, d if before is None else 1.5 * before - 0.5 * d))
            before = d
        return x


@dataclass(frozen=True)
class WrongWeight:
    """DDIM with a weight of the data that is a thousandth too large."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            x = tape.state(ddim(t, s, x, 1.001 * tape.denoise(x, t)))
        return x


@dataclass(frozen=True)
class WrongNoise:
    """Ancestral sampling with a hundredth too much noise: the right mean, and a wrong deviation."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            c = s.sigma * math.sqrt(1 - (t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2)
            kept = math.sqrt(s.sigma**2 - c**2) / t.sigma
            x = tape.state(kept * x + (s.alpha - kept * t.alpha) * d + 1.01 * c * tape.noise())
        return x


@dataclass(frozen=True)
class LyingOrder:
    """Euler that claims the second order."""

    order = 2

    def solve(self, tape, x, grid):
        return DDIM().solve(tape, x, grid)


@dataclass(frozen=True)
class BlindToUnevenSteps:
    """2M with the weights of equal steps: of order 2 only where the steps are equal in lambda."""

    order = 2

    def solve(self, tape, x, grid):
        before = None
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.state(ddim(t, s, x, d if before is None or s.sigma == 0 else 1.9 * d - 0.9 * before))
            before = d
        return x


@dataclass(frozen=True)
class Cancelling:
    """DDIM over a state that is 1e4 times too large: right in float64, three digits lost in float32."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            far = tape.state(ddim(t, s, x, d) + 1e4 * d)
            x = tape.state(far - 1e4 * d)
        return x


@dataclass(frozen=True)
class Overflowing:
    """DDIM over a state that is 1e40 times too large: right in float64, infinite in float32."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            far = tape.state(1e20 * tape.state(1e20 * ddim(t, s, x, tape.denoise(x, t))))
            x = tape.state(1e-20 * tape.state(1e-20 * far))
        return x


@dataclass(frozen=True)
class LyingCalls(Integrator):
    """Euler that reports one call less than it makes."""

    def prepare(self, sde, nfe, spacing=None, *, to_clean=False):
        run = ODE("euler").prepare(sde, nfe, spacing, to_clean=to_clean)
        return replace(run, nfe=run.nfe - 1)


@dataclass(frozen=True)
class Spendthrift(Integrator):
    """Euler with twice the budget."""

    def prepare(self, sde, nfe, spacing=None, *, to_clean=False):
        return ODE("euler").prepare(sde, 2 * nfe, spacing, to_clean=to_clean)


@dataclass(frozen=True)
class Crashing:
    """A multistep method that reads a history in its first step."""

    order = 2

    def solve(self, tape, x, grid):
        return [][0]


@dataclass(frozen=True)
class Measured:
    """A step sized by norms: its law cannot be certified, so it must not pass."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.langevin(ddim(t, s, x, d), d, 0.1)
        return x
