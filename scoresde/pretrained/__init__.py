"""Networks that come with the package, and what samples of theirs are measured against."""

from ..training.checkpoint import MODEL
from .shipped import FEATURES, FOLDERS, REFERENCE, Pretrained, pretrained

__all__ = ["FEATURES", "FOLDERS", "MODEL", "REFERENCE", "Pretrained", "pretrained"]
