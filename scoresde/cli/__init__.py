"""The ``scoresde`` command: train a network, draw samples, and measure levels and tune solvers for it."""

from .main import main

__all__ = ["main"]
