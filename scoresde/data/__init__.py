"""Data sets by name or path, and samples as pictures (:mod:`scoresde.data.pictures`)."""

from .sources import Data, load_data

__all__ = ["Data", "load_data"]
