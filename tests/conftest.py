"""Settings of all tests: the same examples in every run, on one thread; the programs of benchmarks/."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # they import each other by name

settings.register_profile("scoresde", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("scoresde")
torch.set_num_threads(1)

# A shell starts its background jobs with Ctrl-C ignored, which programs started by a test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names of tests with an address: they differ in each process, and pytest-xdist then runs none."""
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"names of tests must be the same in every process, got {named[0]}")
