"""Solvers that run their own loop."""
