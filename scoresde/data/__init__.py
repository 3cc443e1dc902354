"""Data sets by name or path, pixels and numbers, and samples as pictures."""

from .sources import Data, load_data

__all__ = ["Data", "load_data"]
