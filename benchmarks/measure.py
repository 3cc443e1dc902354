"""Runs on a problem, drawn and timed, and the record that each leaves."""

import argparse
import hashlib
import platform
import statistics
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from converged import converged_plan, key_of
from lines import Record
from problems import Problem
from records import dtype_of
from stopwatch import Timed, device_name, peak_memory_mb, reset_peak_memory, synchronise
from torch import Tensor

from scoresde import __version__
from scoresde.devices import device_of
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.metrics.moments import Moments
from scoresde.noise import Noise
from scoresde.plans.plan import Plan
from scoresde.sampling.prepare import prepare
from scoresde.sampling.sample import sample
from scoresde.sampling.tuned import is_tuned
from scoresde.solvers.integrators.base import Integration

# By name, everything that decides a run and its figures; what the names leave open is in the key of a record.
NAMES = (
    *("solver", "sde", "spacing", "to_clean", "problem", "nfe_requested", "n_samples", "batch_size", "seed"),
    *("fd_features", "converged_nfe", "device", "device_name", "dtype", "compiled", "checkpoint", "versions"),
)


class Asked(NamedTuple):
    """A run to be made: solver and spacing by name, budget, and the plan."""

    solver: str
    spacing: str
    nfe: int
    run: Plan | Integration


class Bench:
    """A problem with the options of a benchmark, and runs on it."""

    def __init__(self, problem: Problem, options: argparse.Namespace) -> None:
        self.problem, self.options = problem, options
        self.device, dtype = device_of(options.device), dtype_of(options.dtype)
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.timed = Timed(problem.denoiser, self.device, lambda: None)
        self.calls: int = options.converged or problem.converged
        whole, rest = divmod(options.n_samples, options.batch_size)
        self.sizes: list[int] = [options.batch_size] * whole + [rest] * bool(rest)

    def names(self, asked: Asked) -> Record:
        """The fields of a record that say which run it is."""
        options, problem = self.options, self.problem
        return {
            "solver": asked.solver,
            "sde": problem.process,
            "spacing": asked.spacing,
            "to_clean": options.to_clean,
            "problem": problem.name,
            "nfe_requested": asked.nfe,
            "n_samples": options.n_samples,
            "batch_size": options.batch_size,
            "fd_features": f"{problem.features.name}@{_thousands(options.n_samples)}",
            "converged_nfe": self.calls,
            "device": str(self.device),
            "device_name": device_name(self.device),
            "dtype": options.dtype,
            "compiled": options.compile,
            "seed": options.seed,
            "checkpoint": problem.checkpoint,
            "versions": {
                "scoresde": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "key": self._key(asked.run),
        }

    def find(self, asked: Asked, records: Sequence[Record]) -> Record | None:
        """The last record of that run.

        One without a key is from before there were any: it is, if nothing but its names decides it.
        """
        names = self.names(asked)
        open_to_doubt = names["checkpoint"] != "shipped" or is_tuned(asked.solver)
        for record in reversed(records):
            known = all(record.get(name) == names[name] for name in NAMES)
            if known and record.get("key", "" if open_to_doubt else names["key"]) == names["key"]:
                return record
        return None

    @cached_property
    def _about(self) -> bytes:
        """The network's weights and the data."""
        data = self.problem.data
        key = key_of(self.problem, self.options, self.calls)
        return key.encode() + data.mean.numpy().tobytes() + data.scatter.numpy().tobytes()

    def _key(self, run: Plan | Integration) -> str:
        """What the names of a run leave open: the network's weights, the data, and the table's numbers."""
        digest = hashlib.sha256(self._about)
        if isinstance(run, Plan):
            digest.update(repr((run.lines, run.start, run.end)).encode())
        return digest.hexdigest()[:16]

    def converged(self) -> Tensor:
        """The samples that stand for the exact solution."""
        return self.draw(converged_plan(self.problem, self.calls, self.options.to_clean))[0]

    def draw(self, run: Plan | Integration) -> tuple[Tensor, list[float], list[float]]:
        """All samples of a run on the host, and the seconds of each batch, in all and in the network."""
        samples, seconds, network_seconds = [], [], []
        first, problem = 0, self.problem
        for n in self.sizes:
            ids = torch.arange(first, first + n)
            cond = problem.labels(ids) if problem.labels else None
            if not first:
                self._warm_up(ids, cond)
            self.timed.seconds()
            begin = time.perf_counter()
            x = sample(
                self.timed,
                run,
                (n, *problem.shape),
                seed=self.options.seed,
                ids=ids,
                cond=cond,
                device=self.device,
                dtype=self.dtype,
            )
            synchronise(self.device)
            seconds.append(time.perf_counter() - begin)
            network_seconds.append(self.timed.seconds())
            samples.append(x.cpu())
            first += n
        return torch.cat(samples), seconds, network_seconds

    def _warm_up(self, ids: Tensor, cond: Tensor | None) -> None:
        """One network call that no figure counts: threads, caches and compilation are ready after it."""
        level = prepare("ddim", self.timed.sde, 1).start
        x = level.sigma * Noise(0, ids.to(self.device), self.problem.shape)(0).to(self.dtype)
        with torch.no_grad():
            self.timed.denoiser(x, level, None if cond is None else cond.to(self.device))
        synchronise(self.device)

    def measure(self, asked: Asked, exact: Tensor, exact_moments: Moments) -> tuple[Record, Tensor]:
        """The record of a run, and its samples."""
        problem, timed = self.problem, self.timed
        timed.calls = timed.evaluations = 0
        reset_peak_memory(self.device)
        x, seconds, network_seconds = self.draw(asked.run)
        memory = peak_memory_mb(self.device)
        moments = feature_moments(problem.features.of, x)
        rmse = (x - exact).square().mean().sqrt().item()
        figures: dict[str, Any] = {
            "nfe": _whole(timed.evaluations / self.options.n_samples),
            "rounds": _whole(timed.calls / len(self.sizes)),
            "fd": frechet_distance(moments, problem.data),
            "fd_reference": frechet_distance(moments, exact_moments),
            "fd_converged": frechet_distance(exact_moments, problem.data),
            "fd_held_out": problem.held_out and problem.held_out[0],
            "held_out_count": problem.held_out and problem.held_out[1],
            "rmse_to_converged": None if asked.run.stochastic else rmse,
            "amplification": asked.run.amplification if isinstance(asked.run, Plan) else None,
            "seconds": sum(seconds),
            "seconds_network": sum(network_seconds),
            "seconds_per_1k_samples": self._steady(seconds),
            "peak_memory_mb": memory,
        }
        return self.names(asked) | figures, x

    def _steady(self, seconds: list[float]) -> float:
        """Seconds for 1,000 samples: the median of the whole batches."""
        size: int = self.options.batch_size
        whole = [s for s, n in zip(seconds, self.sizes, strict=True) if n == size] or seconds
        return statistics.median(whole) / min(size, sum(self.sizes)) * 1000


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _thousands(n: int) -> str:
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)
