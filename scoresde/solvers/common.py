"""Moves that several solvers share; each takes and gives combinations of vectors."""

from ..plan import Vector
from ..sde import Level


def eps_of(t: Level[float], x: Vector, d: Vector) -> Vector:
    """The noise that x at level t holds if d is x_0."""
    return (x - t.alpha * d) / t.sigma


def score_of(t: Level[float], x: Vector, d: Vector) -> Vector:
    """The score at level t: (alpha d - x) / sigma^2."""
    return (t.alpha * d - x) / t.sigma**2


def move(t: Level[float], s: Level[float], x: Vector, eps: Vector) -> Vector:
    """x from level t to level s along constant noise: exact if eps is."""
    ratio = s.alpha / t.alpha
    return ratio * x + (s.sigma - ratio * t.sigma) * eps


def ddim(t: Level[float], s: Level[float], x: Vector, d: Vector) -> Vector:
    """The same move, told x_0; it holds at alpha = 0 and sigma = 0 too."""
    return s.sigma / t.sigma * x + (s.alpha - s.sigma / t.sigma * t.alpha) * d
