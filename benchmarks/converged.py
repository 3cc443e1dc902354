"""The run that stands for the exact solution, drawn once and kept in a file."""

import argparse
import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import torch
from problems import PROBLEMS, Problem
from torch import Tensor

from scoresde import __version__
from scoresde.files import read_tensors, write_tensors
from scoresde.plans.plan import Plan
from scoresde.sampling.prepare import prepare
from scoresde.solvers.integrators.base import Integration
from scoresde.spacings.composed import Joined
from scoresde.spacings.formulas import UniformLambda, UniformTime


def converged_plan(problem: Problem, calls: int, to_clean: bool = False) -> Plan | Integration:
    """Its plan: DPM-Solver++ 3M, with corrected weights, on equal steps in lambda, to the same end.

    Where alpha = 0 at t_max, lambda has no beginning there: the steps to lambda = 0 are then equal in t.
    """
    sde = problem.denoiser.sde
    begins = math.isfinite(sde.lam_at(sde.t_max))
    spacing = UniformLambda() if begins else Joined(UniformTime(), UniformLambda(), lam=0.0)
    return prepare("dpmpp-3m", sde, calls, spacing, to_clean=to_clean)


def converged_file(folder: Path, problem: Problem, options: argparse.Namespace, calls: int) -> Path:
    """The file in which the converged run of these options is kept."""
    return folder / f"converged-{key_of(problem, options, calls)}.safetensors"


def kept(file: Path, draw: Callable[[], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The samples in a file, or, the first time, those that ``draw`` makes.

    Raises:
        ValueError: the file holds other samples, or is damaged.
    """
    if not file.exists():
        write_tensors(file, {"x": draw()})
    tensors, _ = read_tensors(file)
    if "x" not in tensors or tuple(tensors["x"].shape) != shape:
        raise ValueError(f"{file} does not hold the converged samples {shape}; remove it")
    return tensors["x"]


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
    digest.update(repr((*parts, calls, __version__)).encode())
    # Where these say nothing more, the key is that of files from before they were asked for.
    if getattr(options, "to_clean", False):
        digest.update(b"to clean")
    if problem.name not in PROBLEMS and problem.labels:
        digest.update(problem.labels(torch.arange(1000)).numpy().tobytes())
    return digest.hexdigest()[:16]
