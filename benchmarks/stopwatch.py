"""Seconds and memory, of a run as a whole and of the network in it."""

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.denoisers.protocol import DenoiserLike
from scoresde.processes.level import Level
from scoresde.processes.sde import SDE

PROC = Path("/proc/self")


class Timed:
    """A denoiser that notes the seconds of its calls: by a clock, or, on a GPU, by events read at the end."""

    def __init__(self, denoiser: DenoiserLike, device: torch.device, tick: Callable[[], Any]) -> None:
        self.denoiser, self.device, self.tick = denoiser, device, tick
        self.calls = self.evaluations = 0  # of the network, whatever the batch; of its estimates
        self._spans: list[tuple[Any, Any]] = []

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    @property
    def net(self) -> object:
        return getattr(self.denoiser, "net", None)

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        begin = self._mark()
        d = self.denoiser(x, level, cond)
        self._spans.append((begin, self._mark()))
        self.calls += 1
        self.evaluations += len(x)
        self.tick()
        return d

    def seconds(self) -> float:
        """Seconds in the network since the last time this was asked."""
        synchronise(self.device)
        spans, self._spans = self._spans, []
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
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device) -> None:
    """Let :func:`peak_memory_mb` count from here, where the system can (a GPU, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        (PROC / "clear_refs").write_text("5")


def peak_memory_mb(device: torch.device) -> float:
    """The most memory in use since the reset: allocated on a GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        line = next(line for line in (PROC / "status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device_name(device: torch.device) -> str:
    """What the device is."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        line = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        )
        return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} threads"
    except (OSError, StopIteration):
        return f"{torch.get_num_threads()} threads"
