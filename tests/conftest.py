"""Settings of all tests: the same examples in every run, on one thread; the programs of benchmarks/."""

import sys
from pathlib import Path

import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # they import each other by name

settings.register_profile("scoresde", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("scoresde")
torch.set_num_threads(1)
