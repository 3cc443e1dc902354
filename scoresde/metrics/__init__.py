"""Distances between sets of samples."""

from .frechet import feature_moments, frechet_distance
from .moments import Moments, gaussian_moments

__all__ = ["Moments", "feature_moments", "frechet_distance", "gaussian_moments"]
