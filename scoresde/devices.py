"""Devices: which have float64, by name, and the precision of float32 products."""

import torch
from torch import Tensor


def float64_device(device: torch.device) -> torch.device:
    """The device for float64 numbers beside tensors of ``device``: the same, or the host as a fallback.

    Apple's GPUs (MPS) and some others have no float64.
    """
    if device.type not in ("cpu", "cuda"):
        try:
            torch.ones(1, dtype=torch.float64, device=device).add_(1)
        except (TypeError, RuntimeError):
            return torch.device("cpu")
    return device


def exact(x: Tensor) -> Tensor:
    """x in float64, on its device, or on the host if its device has no float64."""
    return x.to(float64_device(x.device)).double()


def device_of(name: str) -> torch.device:
    """A device by name; ValueError unless it is available."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition(". ")[0]
        raise ValueError(f"--device must be available here, such as cpu, got {name!r}: {reason}") from None
    return device


def exact_float32() -> None:
    """Turn off TF32 for products and convolutions of float32, for the whole process.

    By default cuDNN uses TF32 in convolutions.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
