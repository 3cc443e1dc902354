"""Milliseconds from noise to samples: ``python benchmarks/latency.py --device cuda``.

Runs one solver on the network that ships: from Python, compiled, and, on a GPU, recorded as one CUDA graph.
With a small batch a GPU waits for Python, with a large batch it does not; the table shows where this changes.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import command
import torch
from lines import Record, append, calls_of, lines_file
from problems import Problem, make_problem
from records import dtype_of, prepare_networks
from rich.table import Table
from stopwatch import device_name
from tables import console
from torch.utils.benchmark import Measurement, Timer
from tqdm import tqdm

from scoresde import Karras, captured, prepare, sample
from scoresde.devices import device_of, exact_float32
from scoresde.plans.plan import Plan
from scoresde.sampling.tuned import is_tuned


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the lines; bad input is one line on stderr and 2."""
    return command.execute(_parser(), lambda options: print_table(measure(options)), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    add = parser.add_argument
    add("--solver", default="dpmpp-2m", metavar="NAME", help="a table, or tuned; default %(default)s")
    add("--nfe", type=int, default=10, metavar="N", help="network calls; default %(default)s")
    add("--batch-size", nargs="+", type=int, default=[1, 16, 64, 256, 1024], metavar="N")
    add(
        "--seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="minimum time for each figure, a median over runs; at most 10 S; default %(default)g",
    )
    add(
        "--compile", action="store_true", help="also measure compiled runs; half a minute for each batch size"
    )
    add(
        "--dtype", default="float32", metavar="TYPE", help="of the network: %(default)s (default) or bfloat16"
    )
    command.add_shared(parser, "device", "out", "quiet")
    return parser


def measure(options: argparse.Namespace) -> list[Record]:
    """A record for every kind of run and every batch size."""
    command.at_least(1, options, "batch_size")
    device, dtype = device_of(options.device), dtype_of(options.dtype)
    if dtype == torch.float64 or not options.seconds > 0:
        raise ValueError("--dtype must be float32 or bfloat16, and --seconds more than 0")
    exact_float32()
    problem = make_problem("mnist", "edm", dtype=None if dtype == torch.float32 else dtype)
    prepare_networks(problem, device, dtype, compiled=False)
    spacing = None if is_tuned(options.solver) else Karras()
    plan = prepare(options.solver, problem.denoiser.sde, options.nfe, spacing)
    if not isinstance(plan, Plan):
        raise ValueError(f"--solver must be a table, because others run their own loop, got {options.solver}")
    file = lines_file(options.out, "latency.jsonl")
    records = []
    with tqdm(total=len(options.batch_size), unit="size", disable=options.quiet) as bar:
        for n in options.batch_size:
            for way, run in _ways(problem, plan, n, device, options.compile).items():
                bar.set_description(f"{n} samples, {way}")
                found = time_of(run, options.seconds, device)
                record = {
                    "way": way,
                    "batch_size": n,
                    "milliseconds": 1000 * found.median,
                    "milliseconds_iqr": 1000 * found.iqr,
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
    """The kinds of runs that draw n samples."""
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


def time_of(run: Callable[[], object], seconds: float, device: torch.device) -> Measurement:
    """Measure a run, repeated after a first run that does not count.

    The repetitions end when their IQR is below a tenth of their median, or after ``10 * seconds``.

    Args:
        run: need not wait for the device: torch's Timer does.
        seconds: least time of all repetitions.
        device: of the run.
    """
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    with torch.cuda.device(device if device.type == "cuda" else -1):  # the Timer waits for the current device
        return timer.adaptive_autorange(min_run_time=seconds, max_run_time=10 * seconds)


def print_table(records: Sequence[Record]) -> None:
    """A row for each batch size, a column for each kind of run, in milliseconds."""
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


if __name__ == "__main__":
    sys.exit(main())
