"""The included networks, with the features and statistics that measure their samples."""

from ..training.checkpoint import MODEL
from .shipped import FEATURES, FOLDERS, REFERENCE, Pretrained, pretrained

__all__ = ["FEATURES", "FOLDERS", "MODEL", "REFERENCE", "Pretrained", "pretrained"]
