"""Seconds and memory: of a whole run, and of the network inside it."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.denoisers.protocol import DenoiserLike, Watched
from scoresde.processes.level import Level

PROC = Path("/proc/self")


class Timed(Watched):
    """A denoiser that measures its calls: by a clock, or, on a GPU, by events.

    The events are read at the end, so that a run does not wait for the device. torch's Timer cannot do this:
    it measures a whole statement.

    Args:
        denoiser: to measure.
        device: of the network.
        tick: called after each call.
    """

    def __init__(self, denoiser: DenoiserLike, device: torch.device, tick: Callable[[], Any]) -> None:
        super().__init__(denoiser, self._end, self._begin)
        self.device, self.tick = device, tick
        self.calls = self.evaluations = 0  # network calls; and with each sample of a batch counted
        self._begins: list[Any] = []
        self._ends: list[Any] = []

    def at(self, dtype: torch.dtype | None) -> "Timed":
        """The denoiser inside in another precision, measured from 0."""
        return Timed(self.denoiser.at(dtype), self.device, self.tick)

    def _begin(self, x: Tensor, level: Level[Any]) -> None:
        self._begins.append(self._mark())

    def _end(self, x: Tensor, level: Level[Any], estimate: Tensor) -> None:
        self._ends.append(self._mark())
        self.calls += 1
        self.evaluations += len(x)
        self.tick()

    def seconds(self) -> float:
        """Seconds in the network since the last call of this function."""
        synchronise(self.device)
        spans = list(zip(self._begins, self._ends, strict=True))
        self._begins, self._ends = [], []
        if self.device.type == "cuda":
            return float(sum(begin.elapsed_time(end) for begin, end in spans)) / 1000
        return float(sum(end - begin for begin, end in spans))

    def _mark(self) -> Any:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            return event
        return time.perf_counter()


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory_mb` start again from here; possible on a GPU and on Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (PROC / "clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The largest memory use since the reset, in MiB: allocated on a GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device_name(device: torch.device) -> str:
    """The name of a GPU, or that of the processor with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    threads = f"{count} thread" if count == 1 else f"{count} threads"
    try:
        line = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        )
        return f"{line.split(':', 1)[1].strip()}, {threads}"
    except (OSError, StopIteration):
        return threads
