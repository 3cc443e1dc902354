"""The precision and the device of a problem's networks."""

import torch
from problems import Problem


def dtype_of(name: str) -> torch.dtype:
    """A type by its name: float32, bfloat16 or float64; ValueError for others."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if name not in known:
        raise ValueError(f"--dtype must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def prepare_networks(problem: Problem, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
    """Move the networks of a problem to the device, and compile the one that is sampled if ``compiled``."""
    if problem.features.network is not None:
        problem.features.network.to(device)
    network = getattr(problem.denoiser, "net", None)
    if isinstance(network, torch.nn.Module):
        network.to(device, torch.float64 if dtype == torch.float64 else None)
        if compiled:
            network.compile(dynamic=False, options={"freezing": True})
