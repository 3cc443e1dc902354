"""Measure the time of a solver outside its network: ``python benchmarks/overhead.py``.

Runs every solver with a network that costs nothing (it returns a stored tensor), on 64 x 3 x 32 x 32 float32
and one thread, in turn with samplers of other libraries, if they are installed. Prints the time for a network
call in units of one ``torch.add(x, y, alpha=c, out=z)`` on the batch. The column of bytes is the least memory
traffic of a solver, in units of the traffic of one addition: a solver must read each vector of a row once and
write the sum. Solvers receive stored noise; the noise itself has separate rows.
"""

import argparse
import json
import statistics
import sys
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
from torch.utils.benchmark import Timer
from tqdm import tqdm

from scoresde import EDM, SOLVERS, VPSDE, Denoiser, Karras, Noise, Plan, integrate, solver_of
from scoresde.denoisers.predictions import noise as noise_prediction
from scoresde.files import write_atomically
from scoresde.plans.compiled import compiled_denoise, compiled_noise, integrate_compiled
from scoresde.solvers.integrators.base import Integrator
from scoresde.spacings import Grid

IMAGE = (3, 32, 32)
SDE = VPSDE()
CALLS = 20  # network calls of a run, about as many as in practice
SECONDS = 0.005  # of each measurement, of which there are several in turn


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write it on request; bad input is one line on stderr and 2."""
    parser = command.parser_of(__file__, __doc__)
    parser.add_argument("--solver", nargs="+", metavar="NAME", help="solvers that are tables; default: all")
    parser.add_argument("--compile", action="store_true", help="also measure compiled runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    command.add_shared(parser, "repeats", "batch-size", repeats=20, batch_size=64)
    return command.execute(parser, _main, arguments)


def _main(options: argparse.Namespace) -> None:
    command.at_least(1, options, "repeats", "batch_size")
    shape = (options.batch_size, *IMAGE)
    names = options.solver or [n for n, solver in SOLVERS.items() if not isinstance(solver, Integrator)]
    plans = {name: _plan(name) for name in names}  # a bad name ends the program before it allocates memory
    if options.out:
        command.check_writable(options.out)
    runs = {name: _runs(plan, shape, options.compile) for name, plan in plans.items()}
    figures = measure(runs | _noise(shape, options.compile) | _peers(shape), options.repeats, shape)
    for name, plan in plans.items():
        figures[name]["bytes"] = _moved(plan)
    print_table(figures)
    if options.out:
        write_atomically(options.out, json.dumps(figures, indent=1).encode())


Work = tuple[Callable[[], object], int]  # what to time, and its number of network calls


def _runs(plan: Plan, shape: tuple[int, ...], compile: bool) -> dict[str, Work]:
    """A solver with a network that returns x_0, and with a Denoiser of a network that returns the noise."""
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
        raise ValueError(f"--solver must be tables, because others run their own loop, got {name}")
    return Plan.within(CALLS, solver, SDE)


def _moved(plan: Plan) -> float:
    """The bytes that rows move for a network call, in units of an addition: two reads and one write."""
    return sum(len(line.reads) + 1 for line in plan.lines if line.level is None) / 3 / plan.nfe


def _noise(shape: tuple[int, ...], compile: bool) -> dict[str, dict[str, Work]]:
    """A draw of our noise, a function of seed and sample number, and a draw of torch's."""
    noise = Noise(0, torch.arange(shape[0]), shape[1:])
    runs: dict[str, dict[str, Work]] = {
        "torch.randn": {"data": (lambda: torch.randn(shape), 1)},
        "noise": {"data": (lambda: noise(1), 1)},
    }
    if compile:
        drawn = compiled_noise(noise)
        runs["noise"]["data, compiled"] = (lambda: drawn(1), 1)
    return runs


def _peers(shape: tuple[int, ...]) -> dict[str, dict[str, Work]]:
    """The samplers of the other libraries that are installed, with the prediction that each expects."""
    levels = Grid.build(EDM(), CALLS, Karras()).levels
    x, answer, z = (torch.randn(shape) for _ in range(3))
    runs: dict[str, dict[str, Work]] = {}

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
    runs: dict[str, dict[str, Work]], repeats: int, shape: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """The time for a network call in units of one addition: medians over repeats, with all runs in turn."""
    x, y, out = (torch.randn(shape) for _ in range(3))
    units: list[float] = []
    seconds: dict[tuple[str, str], list[float]] = {(n, k): [] for n, kinds in runs.items() for k in kinds}
    with torch.no_grad():
        for name, kind in seconds:
            runs[name][kind][0]()  # fills caches, and compiles
        for _ in tqdm(range(repeats), desc="measuring"):
            units.append(_seconds(lambda: torch.add(x, y, alpha=0.5, out=out)))
            for (name, kind), found in seconds.items():
                run, calls = runs[name][kind]
                found.append(_seconds(run) / calls)
    unit = statistics.median(units)
    figures: dict[str, dict[str, float]] = {}
    for (name, kind), found in seconds.items():
        figures.setdefault(name, {})[kind] = statistics.median(found) / unit
    return figures


def _seconds(run: Callable[[], object]) -> float:
    """The median of a run, on the one thread that a Timer has by default."""
    return Timer("run()", globals={"run": run}).blocked_autorange(min_run_time=SECONDS).median


COLUMNS = {
    "bytes": "bytes to move",
    "data": "on the data",
    "data, compiled": "compiled",
    "noise": "by a Denoiser, of the noise",
    "noise, compiled": "compiled",
}


def print_table(figures: dict[str, dict[str, float]]) -> None:
    """A row for each run, a column for each kind."""
    table = Table(title="time for a network call beyond the network, in additions of two batches")
    shown = {kind: title for kind, title in COLUMNS.items() if any(kind in f for f in figures.values())}
    for column in ("solver", *shown.values()):
        table.add_column(column, justify="left" if column == "solver" else "right")
    for name, kinds in figures.items():
        table.add_row(name, *(f"{kinds[kind]:.2f}" if kind in kinds else "" for kind in shown))
    console().print(table)


if __name__ == "__main__":
    sys.exit(main())
