"""Milliseconds from noise to samples: ``python benchmarks/latency.py --device cuda``.

One solver on the network that ships: as Python calls it, compiled, and, on a GPU, recorded as one CUDA graph.
A GPU waits for Python with a small batch, and not with a large one; the table says where that changes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import command
import torch
from lines import append, calls_of
from problems import Problem, make_problem
from records import dtype_of, prepare_networks
from rich.table import Table
from stopwatch import device_name, synchronise
from tables import console
from tqdm import tqdm

from scoresde import Karras, captured, prepare, sample
from scoresde.devices import device_of, exact_float32
from scoresde.plans.plan import Plan
from scoresde.sampling.tuned import is_tuned


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the lines; bad input is one line on stderr and 2."""
    options = _parser().parse_args(arguments)
    return command.command("latency.py", lambda: _print(measure(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("latency.py", description=(__doc__ or "").split(":")[0])
    add = parser.add_argument
    add(
        "--solver", default="dpmpp-2m", metavar="NAME", help="one that is a table, or tuned; default dpmpp-2m"
    )
    add("--nfe", type=int, default=10, metavar="N", help="network calls; default 10")
    add("--batch-size", nargs="+", type=int, default=[1, 16, 64, 256, 1024], metavar="N")
    add("--device", default="cpu", help="cpu, cuda, ...")
    add("--dtype", default="float32", metavar="TYPE", help="the network's: float32 or bfloat16")
    add("--compile", action="store_true", help="compiled runs, too: half a minute more for each batch size")
    add("--repeats", type=int, default=10, metavar="N", help="of which the median; default 10")
    add("--out", type=Path, default=Path("results"), metavar="PATH", help="a folder, or a file named .jsonl")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A record of every way to run and every batch size."""
    device, dtype = device_of(options.device), dtype_of(options.dtype)
    if dtype == torch.float64 or min(options.repeats, *options.batch_size) < 1:
        raise ValueError("--repeats and --batch-size must be at least 1, --dtype float32 or bfloat16")
    exact_float32()
    problem = make_problem("mnist", "edm", dtype=None if dtype == torch.float32 else dtype)
    prepare_networks(problem, device, dtype, compiled=False)
    spacing = None if is_tuned(options.solver) else Karras()
    plan = prepare(options.solver, problem.denoiser.sde, options.nfe, spacing)
    if not isinstance(plan, Plan):
        raise ValueError(f"--solver {options.solver} is no table, and its loop is not ours")
    file = command.lines_file(options.out, "latency.jsonl")
    records = []
    with tqdm(total=len(options.batch_size), unit="size", disable=options.quiet) as bar:
        for n in options.batch_size:
            for way, run in _ways(problem, plan, n, device, options.compile).items():
                bar.set_description(f"{n} samples, {way}")
                record = {
                    "way": way,
                    "batch_size": n,
                    "milliseconds": _milliseconds(run, device, options.repeats),
                    "solver": options.solver,
                    "nfe": plan.nfe,
                    "nfe_requested": options.nfe,
                    "dtype": options.dtype,
                    "device_name": device_name(device),
                    "torch": torch.__version__,
                }
                append(file, record)
                records.append(record)
            bar.update()
    return records


def _ways(
    problem: Problem, plan: Plan, n: int, device: torch.device, compile: bool
) -> dict[str, Callable[[], object]]:
    """Runs that draw n samples."""
    denoiser, shape, ids = problem.denoiser, (n, *problem.shape), torch.arange(n, device=device)
    cond = None if problem.labels is None else problem.labels(torch.arange(n)).to(device)
    ways: dict[str, Callable[[], object]] = {
        "as it is": lambda: sample(denoiser, plan, shape, cond=cond, device=device)
    }
    if compile:
        ways["compiled"] = lambda: sample(denoiser, plan, shape, cond=cond, device=device, compile=True)
    if device.type == "cuda":
        draw = captured(denoiser, plan, shape, cond=cond, device=device)
        ways["captured"] = lambda: draw(ids, cond)
    return ways


def _milliseconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median, after a run that no figure counts."""
    run()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        begin = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seconds)


def _print(records: Sequence[dict[str, Any]]) -> int:
    first = records[0]
    table = Table(
        title=f"{first['solver']}, {calls_of(first)} calls, {first['dtype']}, {first['device_name']}: ms"
    )
    ways = list(dict.fromkeys(record["way"] for record in records))
    for column in ("samples", *ways):
        table.add_column(column, justify="right")
    for n in dict.fromkeys(record["batch_size"] for record in records):
        here = {record["way"]: record["milliseconds"] for record in records if record["batch_size"] == n}
        table.add_row(str(n), *(f"{here[way]:.3g}" for way in ways))
    console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
