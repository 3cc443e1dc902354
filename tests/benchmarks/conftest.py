"""What tests of the benchmarks share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the pictures of curves, which take a second in each run."""
    monkeypatch.setattr("run.draw_curves", lambda *_: [])
