"""Runs as tables of weights: the table, how it is written, saved and carried out."""

from .executor import integrate, iterate
from .plan import Plan
from .tape import Line, Solver, Tape
from .vector import Row, Vector

__all__ = ["Line", "Plan", "Row", "Solver", "Tape", "Vector", "integrate", "iterate"]
