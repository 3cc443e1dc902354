"""What a device can do."""

import torch
from torch import Tensor


def float64_device(device: torch.device) -> torch.device:
    """Where numbers in float64 that go with tensors of ``device`` are kept: there, or on the host.

    Apple's GPUs (MPS), and some others, have no float64.
    """
    if device.type not in ("cpu", "cuda"):
        try:
            torch.ones(1, dtype=torch.float64, device=device).add_(1)
        except (TypeError, RuntimeError):
            return torch.device("cpu")
    return device


def exact(x: Tensor) -> Tensor:
    """x in float64, on its device or, if that has none, on the host."""
    return x.to(float64_device(x.device)).double()
