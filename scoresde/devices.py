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


def device_of(name: str) -> torch.device:
    """A device by name, after making sure that it is there."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition(". ")[0]
        raise ValueError(f"--device must be available here, such as cpu, got {name!r}: {reason}") from None
    return device


def exact_float32() -> None:
    """Have no product of float32 made in TF32, as cuDNN's convolutions are unless told; in this process."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
