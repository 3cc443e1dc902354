"""The benchmarks are programs in one folder, not a package: their modules are imported from this folder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # before tests/problems.py


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the pictures of curves, which take a second in each run."""
    monkeypatch.setattr("run.draw_curves", lambda *_: [])
