"""Runs of a solver: one general function, its checks, and the familiar names."""
