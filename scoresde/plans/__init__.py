"""Runs as tables of weights: how a solver writes a table, how it is saved, and how it is executed."""

from .executor import integrate, iterate
from .levels import levels_at
from .plan import Plan
from .tape import Line, Solver, Tape
from .vector import Row, Vector

__all__ = ["Line", "Plan", "Row", "Solver", "Tape", "Vector", "integrate", "iterate", "levels_at"]
