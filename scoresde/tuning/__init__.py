"""Tuned solvers: a table of weights fitted to one network and one budget of calls."""
