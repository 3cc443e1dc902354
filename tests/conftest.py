"""Settings of all tests: the same examples in every run, on one thread."""

import torch
from hypothesis import settings

settings.register_profile("scoresde", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("scoresde")
torch.set_num_threads(1)
