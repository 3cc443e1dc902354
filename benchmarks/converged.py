"""The converged run, which stands for the exact solution: drawn once, then read from a file."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from problems import PROBLEMS, Problem
from torch import Tensor

from scoresde import __version__
from scoresde.files import read_tensors, write_tensors
from scoresde.plans.plan import Plan
from scoresde.sampling.prepare import prepare
from scoresde.solvers.integrators.base import Integration
from scoresde.spacings import Joined, UniformLambda, UniformTime


class Draws(NamedTuple):
    """Everything that decides a set of samples, beside the problem and the plan."""

    n_samples: int
    batch_size: int
    seed: int
    dtype: str = "float32"
    to_clean: bool = False


def converged_samples(
    folder: Path, problem: Problem, draws: Draws, calls: int, draw: Callable[[Plan | Integration], Tensor]
) -> Tensor:
    """The samples of the converged run, ``(n_samples, *shape)``.

    Args:
        folder: of the file with these samples.
        problem: the run is on this problem.
        draws: how many samples, from which noise.
        calls: network calls of the run.
        draw: makes the samples of a plan, if there is no file yet.

    Raises:
        ValueError: the file holds other samples, or is damaged.
    """
    file = folder / f"converged-{key_of(problem, draws, calls)}.safetensors"
    if not file.exists():
        write_tensors(file, {"x": draw(converged_plan(problem, calls, draws.to_clean))})
    tensors, _ = read_tensors(file)
    shape = (draws.n_samples, *problem.shape)
    if "x" not in tensors or tuple(tensors["x"].shape) != shape:
        raise ValueError(f"{file} does not hold the converged samples {shape}; remove it")
    return tensors["x"]


def converged_plan(problem: Problem, calls: int, to_clean: bool = False) -> Plan | Integration:
    """The plan of the converged run: DPM-Solver++ 3M with corrected weights, equal steps in lambda.

    If alpha = 0 at t_max, lambda is infinite there: the steps above lambda = 0 are then equal in t.
    """
    sde = problem.denoiser.sde
    begins = math.isfinite(sde.lam_at(sde.t_max))
    spacing = UniformLambda() if begins else Joined(UniformTime(), UniformLambda(), lam=0.0)
    return prepare("dpmpp-3m", sde, calls, spacing, to_clean=to_clean)


def key_of(problem: Problem, draws: Draws, calls: int) -> str:
    """The name of a converged run, from everything that decides it."""
    network = getattr(problem.denoiser, "net", None)
    digest = hashlib.sha256()
    if isinstance(network, torch.nn.Module):
        for value in network.state_dict().values():
            digest.update(value.cpu().double().numpy().tobytes())
    parts = (problem.name, repr(problem.denoiser.sde), *draws[:4], calls, __version__)
    digest.update(repr(parts).encode())
    # Without these, the key is that of files written before these options existed.
    if draws.to_clean:
        digest.update(b"to clean")
    if problem.name not in PROBLEMS and problem.labels:
        digest.update(problem.labels(torch.arange(1000)).numpy().tobytes())
    return digest.hexdigest()[:16]
