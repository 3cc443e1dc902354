"""Certificates of solvers: order, law, identity, calls and precision, measured without a network."""
