"""The ``scoresde`` command: train a network, draw samples from it, and tune solvers to it."""

from .main import main

__all__ = ["main"]
