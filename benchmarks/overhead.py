"""What a solver costs besides its network: ``python benchmarks/overhead.py``.

Runs every solver on a network that costs nothing, a tensor it returns, on 64 x 3 x 32 x 32 float32 and one
thread, and the like of other libraries where they are installed, taking turns; prints the time for a network
call in units of one ``torch.add(x, y, alpha=c, out=z)`` on the batch. The bytes that a solver must move, each
of a row's vectors read once and its sum written, are in units of those of one addition. Noise is handed to
the solvers ready made, and has lines of its own.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import command
import torch
from peers import Peer, azula, diffusers_scheduler, k_diffusion
from rich.table import Table
from tables import console
from tqdm import tqdm

from scoresde import EDM, SOLVERS, VPSDE, Denoiser, Karras, Noise, Plan, integrate, solver_of
from scoresde.denoisers.predictions import noise as noise_prediction
from scoresde.files import write_atomically
from scoresde.plans.compiled import compiled_denoise, compiled_noise, integrate_compiled
from scoresde.solvers.integrators.base import Integrator
from scoresde.spacings import Grid

IMAGE = (3, 32, 32)
SDE = VPSDE()
CALLS = 20  # about as many network calls as a run makes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it if asked; bad input is one line on stderr and 2."""
    parser = argparse.ArgumentParser("overhead.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--solver", nargs="+", metavar="NAME", help="default: every one that is a table")
    parser.add_argument(
        "--repeats", type=int, default=30, metavar="N", help="of which the median; default 30"
    )
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images; default 64")
    parser.add_argument(
        "--compile", action="store_true", help="measure compiled runs, too, each compiled before"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    return command.command("overhead.py", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    for name in ("repeats", "batch_size"):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    shape = (options.batch_size, *IMAGE)
    names = options.solver or [n for n, solver in SOLVERS.items() if not isinstance(solver, Integrator)]
    plans = {name: _plan(name) for name in names}  # what cannot be is refused before memory is asked for
    if options.out:
        command.check_writable(options.out)
    runs = {name: _runs(plan, shape, options.compile) for name, plan in plans.items()}
    figures = measure(runs | _noise(shape, options.compile) | _peers(shape), options.repeats, shape)
    for name, plan in plans.items():
        figures[name]["bytes"] = _moved(plan)
    _print(figures)
    if options.out:
        write_atomically(options.out, json.dumps(figures, indent=1).encode())
    return 0


Run = tuple[Callable[[], object], int]  # something to time, and the network calls in it


def _runs(plan: Plan, shape: tuple[int, ...], compile: bool) -> dict[str, Run]:
    """A solver on a network that returns x_0, and behind a Denoiser, on one that returns the noise."""
    x, answer, z = (torch.randn(shape) for _ in range(3))
    denoiser = Denoiser(lambda x, t: answer, SDE, noise_prediction)
    carriers: dict[str, Callable[..., object]] = {
        "data": lambda: integrate(plan, lambda x, level: answer, x, lambda i: z),
        "noise": lambda: integrate(plan, denoiser, x, lambda i: z),
    }
    if compile:
        compiled = compiled_denoise(denoiser)
        carriers |= {
            "data, compiled": lambda: integrate_compiled(plan, lambda x, level: answer, x, lambda i: z),
            "noise, compiled": lambda: integrate_compiled(plan, compiled, x, lambda i: z),
        }
    return {kind: (run, plan.nfe) for kind, run in carriers.items()}


def _plan(name: str) -> Plan:
    solver = solver_of(name)
    if isinstance(solver, Integrator):
        raise ValueError(f"{name} is no table, and its loop is not ours; choose another solver")
    return Plan.within(CALLS, solver, SDE)


def _moved(plan: Plan) -> float:
    """The bytes of a call that rows must move, in additions: two reads and a write."""
    return sum(len(line.reads) + 1 for line in plan.lines if line.level is None) / 3 / plan.nfe


def _noise(shape: tuple[int, ...], compile: bool) -> dict[str, dict[str, Run]]:
    """A draw of noise, and torch's own, which is no function of the sample."""
    noise = Noise(0, torch.arange(shape[0]), shape[1:])
    runs: dict[str, dict[str, Run]] = {
        "torch.randn": {"data": (lambda: torch.randn(shape), 1)},
        "noise": {"data": (lambda: noise(1), 1)},
    }
    if compile:
        drawn = compiled_noise(noise)
        runs["noise"]["data, compiled"] = (lambda: drawn(1), 1)
    return runs


def _peers(shape: tuple[int, ...]) -> dict[str, dict[str, Run]]:
    """The samplers of other libraries that are installed, told what each asks of a network."""
    levels = Grid.build(EDM(), CALLS, Karras()).levels
    x, answer, z = (torch.randn(shape) for _ in range(3))
    runs: dict[str, dict[str, Run]] = {}

    def add(name: str, kind: str, make: Callable[[], Callable[[], object]]) -> None:
        with suppress(ModuleNotFoundError):
            runs[name] = {kind: (make(), CALLS)}

    def sampled(peer: Callable[..., Peer], name: str, **options: Any) -> Callable[[], object]:
        run = peer(name, **options)
        return lambda: run(lambda x, level: answer, levels, x, lambda i: z)

    def stepped(name: str, **options: Any) -> Callable[[], object]:
        diffusers_scheduler(name, levels, torch.float32, **options)

        def run() -> None:
            state = x
            scheduler, _ = diffusers_scheduler(name, levels, torch.float32, **options)
            for t in scheduler.timesteps:
                state = scheduler.step(answer, t, scheduler.scale_model_input(state, t)).prev_sample

        return run

    for name in ("sample_euler", "sample_dpmpp_2m", "sample_dpmpp_3m_sde", "sample_lms"):
        add(f"k-diffusion {name}", "data", partial(sampled, k_diffusion, name))
    add("azula DDIMSampler", "data", partial(sampled, azula, "DDIMSampler"))
    add("azula xEABSampler", "data", partial(sampled, azula, "xEABSampler", order=3))
    schedulers: dict[str, dict[str, Any]] = {
        "DDIMScheduler": {"clip_sample": False},
        "DPMSolverMultistepScheduler": {"final_sigmas_type": "sigma_min"},
        "UniPCMultistepScheduler": {"solver_order": 3, "final_sigmas_type": "sigma_min"},
        "DEISMultistepScheduler": {"solver_order": 3},
    }
    for name, options in schedulers.items():
        add(f"diffusers {name}", "noise", partial(stepped, name, **options))
    return runs


def measure(
    runs: dict[str, dict[str, Run]], repeats: int, shape: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """The median, over repeats in turn, of the time for a call in units of one addition."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, y, out = (torch.randn(shape) for _ in range(3))
    seconds: dict[tuple[str, str], list[float]] = {(n, k): [] for n, kinds in runs.items() for k in kinds}
    units = []
    try:
        with torch.no_grad():
            for run, _ in (run for kinds in runs.values() for run in kinds.values()):
                run()  # caches, and compilation
            for _ in tqdm(range(repeats), desc="measuring"):
                units.append(_seconds(lambda: torch.add(x, y, alpha=0.5, out=out), 200))
                for name, kind in seconds:
                    run, calls = runs[name][kind]
                    seconds[name, kind].append(_seconds(run, 1) / calls)
    finally:
        torch.set_num_threads(threads)
    unit = statistics.median(units)
    figures: dict[str, dict[str, float]] = {}
    for (name, kind), times in seconds.items():
        figures.setdefault(name, {})[kind] = statistics.median(times) / unit
    return figures


def _seconds(run: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - begin) / times


COLUMNS = {
    "bytes": "bytes to move",
    "data": "on the data",
    "data, compiled": "compiled",
    "noise": "by a Denoiser, of the noise",
    "noise, compiled": "compiled",
}


def _print(figures: dict[str, dict[str, float]]) -> None:
    table = Table(title="time for a network call beyond the network, in additions of two batches")
    shown = {kind: title for kind, title in COLUMNS.items() if any(kind in f for f in figures.values())}
    for column in ("solver", *shown.values()):
        table.add_column(column, justify="left" if column == "solver" else "right")
    for name, kinds in figures.items():
        table.add_row(name, *(f"{kinds[kind]:.2f}" if kind in kinds else "" for kind in shown))
    console().print(table)


if __name__ == "__main__":
    sys.exit(main())
