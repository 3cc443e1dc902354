"""What the benchmarks have in common: where they run, and how their records are kept."""

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from problems import Problem


def dtype_of(name: str) -> torch.dtype:
    """A type by name; ValueError if it is none of three."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
    if name not in known:
        raise ValueError(f"--dtype must be one of {', '.join(known)}, got {name!r}")
    return known[name]


def prepare_networks(problem: Problem, device: torch.device, dtype: torch.dtype, compiled: bool) -> None:
    """The networks of a problem, if any, on the device; that which is sampled from compiled, if asked for."""
    if problem.features.network is not None:
        problem.features.network.to(device)
    network = getattr(problem.denoiser, "net", None)
    if isinstance(network, torch.nn.Module):
        network.to(device, torch.float64 if dtype == torch.float64 else None)
        if compiled:
            network.compile(dynamic=False, options={"freezing": True})


def key_of(problem: Problem, options: argparse.Namespace, calls: int) -> str:
    """Names a converged run by all that decides it."""
    network = getattr(problem.denoiser, "net", None)
    digest = hashlib.sha256()
    if isinstance(network, torch.nn.Module):
        for value in network.state_dict().values():
            digest.update(value.cpu().double().numpy().tobytes())
    parts = (
        problem.name,
        repr(problem.denoiser.sde),
        options.n_samples,
        options.batch_size,
        options.seed,
        options.dtype,
    )
    digest.update(repr((*parts, calls, version("scoresde"))).encode())
    return digest.hexdigest()[:16]


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a JSON line."""
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")
