"""Sampling: one general function, its checks, and the familiar samplers of the field."""
