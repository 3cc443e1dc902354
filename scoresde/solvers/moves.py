"""Formulas that several solvers share, on combinations of vectors."""

from collections.abc import Sequence
from itertools import pairwise
from math import exp, expm1, sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level


def eps_of(t: Level[float], x: Vector, d: Vector) -> Vector:
    """The noise in x at level t if x_0 is d: (x - alpha d) / sigma."""
    return (x - t.alpha * d) / t.sigma


def score_of(t: Level[float], x: Vector, d: Vector) -> Vector:
    """The score at level t: (alpha d - x) / sigma^2."""
    return (t.alpha * d - x) / t.sigma**2


def move(t: Level[float], s: Level[float], x: Vector, eps: Vector) -> Vector:
    """x from level t to level s for constant noise eps; exact if the noise is constant."""
    ratio = s.alpha / t.alpha
    return ratio * x + (s.sigma - ratio * t.sigma) * eps


def ddim(t: Level[float], s: Level[float], x: Vector, d: Vector) -> Vector:
    """The same move for constant data d = x_0; it holds at alpha = 0 and sigma = 0 too."""
    return s.sigma / t.sigma * x + (s.alpha - s.sigma / t.sigma * t.alpha) * d


def transition_factor(t: Level[float], s: Level[float], eta: float) -> float:
    """The factor on x_t in the mean of the reverse transition from t to s; ``eta`` scales the noise."""
    return s.sigma / t.sigma * (exp(eta * (t.lam - s.lam)) if eta else 1.0)


def transition_mean(t: Level[float], s: Level[float], x: Vector, d: Vector, eta: float) -> Vector:
    """The mean of the reverse transition from t to s if x_0 is d; :func:`ddim` at eta = 0."""
    factor = transition_factor(t, s, eta)
    return factor * x + (s.alpha - factor * t.alpha) * d


def transition_std(t: Level[float], s: Level[float], eta: float) -> float:
    """The standard deviation of the reverse transition from t to s."""
    return s.sigma * sqrt(-expm1(2 * eta * (t.lam - s.lam))) if eta and s.sigma else 0.0


def transition_noise(tape: Tape, t: Level[float], s: Level[float], eta: float) -> Vector:
    """Fresh noise of that deviation; no draw where it is 0."""
    std = transition_std(t, s, eta)
    return std * tape.noise() if std else Vector({})


def materialized(tape: Tape, m: Vector) -> Vector:
    """m, computed once for several uses, up to its first weight: a row of two terms is then a single add."""
    unit = next(iter(m.weights.values()))
    return unit * tape.point(m / unit)


def are_even(points: Sequence[float]) -> bool:
    """Are rising points at equal distances, but for rounding?"""
    steps = [b - a for a, b in pairwise(points)]
    return max(steps) <= (1 + 1e-6) * min(steps)


def is_table(solver: object) -> bool:
    """Is it a solver that writes a table? A class or an integrator is not."""
    return hasattr(solver, "solve") and not isinstance(solver, type)


def check_table(solver: object, name: str = "solver") -> None:
    """ValueError unless a solver inside another one writes a table."""
    if not is_table(solver):
        raise ValueError(f"{name} must be a solver that is a table, got {solver!r}")


def check_eta(eta: float, most: float = float("inf")) -> None:
    """ValueError unless a scale of the noise is from 0 to ``most``."""
    if not 0 <= eta <= most:
        raise ValueError(f"eta must be at least 0{f' and at most {most:g}' * (most < 9)}, got {eta!r}")
