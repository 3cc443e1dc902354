"""Moves that several solvers share; each takes and gives combinations of vectors."""

from math import exp, expm1, sqrt

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..processes.level import Level


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


def transition_factor(t: Level[float], s: Level[float], eta: float) -> float:
    """The share of x at level t that the reverse SDE leaves at level s; ``eta`` is its share of noise."""
    return s.sigma / t.sigma * (exp(eta * (t.lam - s.lam)) if eta else 1.0)


def transition_mean(t: Level[float], s: Level[float], x: Vector, d: Vector, eta: float) -> Vector:
    """Where the reverse SDE carries x on average from t to s if x_0 is d; ``ddim`` at eta = 0."""
    share = transition_factor(t, s, eta)
    return share * x + (s.alpha - share * t.alpha) * d


def transition_std(t: Level[float], s: Level[float], eta: float) -> float:
    """The deviation of the reverse SDE's noise, drawn from t to s."""
    return s.sigma * sqrt(-expm1(2 * eta * (t.lam - s.lam))) if eta and s.sigma else 0.0


def transition_noise(tape: Tape, t: Level[float], s: Level[float], eta: float) -> Vector:
    """That noise, freshly drawn if there is any."""
    std = transition_std(t, s, eta)
    return std * tape.noise() if std else Vector({})


def materialized(tape: Tape, m: Vector) -> Vector:
    """m, computed once for several uses, in units of its first weight: what has two terms is then one sum."""
    unit = next(iter(m.weights.values()))
    return unit * tape.point(m / unit)


def is_table(solver: object) -> bool:
    """Is it a solver that writes a table: no class of them, and none that owns its loop?"""
    return hasattr(solver, "solve") and not isinstance(solver, type)


def check_table(solver: object, name: str = "solver") -> None:
    """ValueError unless a solver within another one writes a table."""
    if not is_table(solver):
        raise ValueError(f"{name} must be a solver that is a table, got {solver!r}")


def check_eta(eta: float, most: float = float("inf")) -> None:
    """ValueError unless a share of noise is one."""
    if not 0 <= eta <= most:
        raise ValueError(f"eta must be at least 0{f' and at most {most:g}' * (most < 9)}, got {eta!r}")
