"""Compare solvers by steps, quality and seconds: ``python benchmarks/run.py --solver dpm2 --nfe 20``.

Draws the same samples, from the same noise, with each solver, spacing and number of network calls. Writes a
JSON line and a picture of samples for each run, and the curves of all runs; prints a table.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import command
import torch
from lines import Record, append, latest, lines_file, read_runs
from measure import Asked, Bench
from own import add_problem, problem_of
from pictures import draw_curves, draw_samples, plain_name, published
from plot import print_table
from problems import FEATURES, Problem
from records import dtype_of, prepare_networks
from tqdm import tqdm

from scoresde.denoisers.protocol import DenoiserLike
from scoresde.devices import device_of, exact_float32
from scoresde.metrics.frechet import feature_moments
from scoresde.plans.fingerprint import check_made_for
from scoresde.plans.plan import Plan
from scoresde.pretrained import FOLDERS
from scoresde.processes.catalogue import SDES
from scoresde.processes.sde import SDE
from scoresde.sampling.prepare import prepare
from scoresde.sampling.tuned import is_tuned, tuned_plan
from scoresde.solvers import SOLVERS
from scoresde.solvers.integrators.per_sample import PerSampleIntegrator
from scoresde.solvers.integrators.solve_ivp import SciPy
from scoresde.spacings import SPACINGS, Measured, spacing_of
from scoresde.spacings.default import program_spacing
from scoresde.training.levels import LEVELS, levels_of, usable_levels

SHOWN = 100  # samples in a picture
OWN = "own"  # the spacing of a tuned plan
MEASURED = "measured"  # the levels beside the network


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 2, with one line on stderr, after bad input, and after all runs if one failed."""
    return command.execute(_parser(), _main, arguments)


def _main(options: argparse.Namespace) -> int:
    file, records, grids, failed = run(options)
    print_table(records)
    print()
    many = len(grids) > 6
    for path in [file.parent / "samples-*.png"] if many else grids:
        print(f"samples: {path}")
    lines = read_runs(file) if file.exists() else []
    for path in draw_curves(lines, file.parent, published()):
        print(f"curves: {path}")
    print(f"JSON lines: {file}")
    if failed:
        print(f"run.py: {failed} of {failed + len(records)} runs failed", file=sys.stderr)
    return 2 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    add = parser.add_argument
    add(
        "--solver",
        nargs="+",
        default=["auto"],
        metavar="NAME",
        help="default auto, which suits the calls; options as NAME:key=value,key=value; all, tuned, "
        f"tuned:FILE.json, or {', '.join(SOLVERS)}; a tuned plan has its own spacing",
    )
    command.add_shared(parser, "nfe")
    add(
        "--spacing",
        nargs="+",
        metavar="NAME",
        help="default karras, for auto the levels measured on the network, if they lie beside it, or "
        f"flow-time (flow-time for any solver if alpha = 0 at t_max); {', '.join(SPACINGS)}",
    )
    add("--sde", metavar="NAME", help=f"{', '.join(SDES)}; default: edm, or the SDE of your checkpoint")
    add_problem(parser)
    add("--to-clean", action="store_true", help="end with a step to sigma = 0, which counts as part of --nfe")
    command.add_shared(parser, "n-samples", "batch-size", "device", "seed", "converged", "out", "quiet")
    add("--compile", action="store_true", help="compile the network before the first run (torch.compile)")
    add(
        "--dtype",
        default="float32",
        metavar="TYPE",
        help="precision of the network: float32 (default), bfloat16, or float64 for network and state",
    )
    add("--features", metavar="NAME", help=f"{', '.join(FEATURES)}; default: the features of the problem")
    add("--inception-weights", type=Path, metavar="FILE", help="weights, for --features inception")
    add(
        "--data",
        metavar="SOURCE",
        help="training data, as data.source of a configuration: for features without stored statistics, and "
        "to replace the data that your checkpoint names",
    )
    add("--again", action="store_true", help="repeat runs that already have a line")
    return parser


def run(options: argparse.Namespace) -> tuple[Path, list[Record], list[Path], int]:
    """Make every run of the command line, and write the record of each as soon as it is made.

    Returns:
        The file of the lines, the records of these runs, the pictures of samples, and how many runs failed.

    Raises:
        ValueError, TypeError, OSError: a bad option; nothing is sampled or written then.
    """
    command.at_least(2, options, "n_samples", "batch_size")
    command.at_least(1, options, "converged")
    problem = _problem(options)
    levels = _levels(options, problem)
    for spec in options.spacing or ():
        if spec != MEASURED:
            spacing_of(spec)  # a bad name ends the program, also with --solver all
    asked = _asked(options, problem.denoiser, levels)
    file = lines_file(options.out, "results.jsonl")
    prepare_networks(problem, device_of(options.device), dtype_of(options.dtype), options.compile)
    bench = Bench(problem, options)
    there = read_runs(file) if file.exists() and not options.again else []
    known = [(one, bench.find(one, there)) for one in asked]
    left = [one for one, record in known if record is None]
    records = [record for _, record in known if record is not None]
    if records:
        print(f"{len(records)} of {len(asked)} runs are in {file}; --again repeats them", file=sys.stderr)
    made: list[Record] = []
    grids = [grid for one, record in known if record and (grid := _grid(file, problem, one)).exists()]
    try:
        if left:
            _make(bench, left, file, made, grids)
    except KeyboardInterrupt:
        done = f"interrupted after {len(made)} of {len(left)} runs; their lines are in {file}"
        raise KeyboardInterrupt(f"{done}, and the same command continues") from None
    return file, latest([*records, *made]), grids, len(left) - len(made)


def _problem(options: argparse.Namespace) -> Problem:
    dtype = dtype_of(options.dtype)
    device_of(options.device)
    exact_float32()
    return problem_of(
        options.problem,
        options.sde,
        options.checkpoint,
        None if dtype == torch.float32 else dtype,
        options.features,
        options.inception_weights,
        options.data,
    )


def _make(bench: Bench, asked: Sequence[Asked], file: Path, made: list[Record], grids: list[Path]) -> None:
    """Make runs, and write the picture and the line of each; report a run that fails, and continue."""
    problem, options, batches = bench.problem, bench.options, len(bench.sizes)
    total = batches * (bench.calls + sum(one.nfe if one.run.nfe is None else one.run.nfe for one in asked))
    with tqdm(total=total, unit="call", smoothing=0.1, disable=options.quiet) as bar:
        bench.timed.tick = bar.update
        bar.set_description("converged")
        exact = bench.converged(file.parent)
        bar.update(batches * bench.calls - bar.n)  # no call is made if a file has the samples
        moments = feature_moments(problem.features.of, exact)
        for one in asked:
            bar.set_description(f"{one.solver} {one.nfe}")
            try:
                record, x = bench.measure(one, exact, moments)
            except Exception as error:  # one solver's error must not stop the others
                if os.environ.get("SCORESDE_TRACEBACK") == "1":
                    raise
                message = " ".join(str(error).split()) or type(error).__name__
                tqdm.write(f"run.py: {one.solver} at {one.nfe} calls failed: {message}", file=sys.stderr)
                continue
            grids.append(_grid(file, problem, one))
            draw_samples(x[:SHOWN], grids[-1], f"{one.solver}, {record['nfe']:g} network calls")
            append(file, record)
            made.append(record)


def _grid(file: Path, problem: Problem, asked: Asked) -> Path:
    """The picture of a run's first samples, beside the lines."""
    name = plain_name("-".join((problem.name, problem.process, asked.solver, asked.spacing)))
    return file.parent / f"samples-{name}-{asked.nfe}.png"


def _levels(options: argparse.Namespace, problem: Problem) -> Measured | None:
    """The levels beside the problem's network: for ``auto`` without ``--spacing``, or by ``measured``."""
    asked, by_itself = MEASURED in (options.spacing or ()), "auto" in options.solver and not options.spacing
    levels = None
    if (asked or by_itself) and problem.denoiser.net is not None:
        place = FOLDERS[problem.name] if problem.checkpoint == "shipped" else Path(problem.checkpoint)
        levels = (levels_of if asked else usable_levels)(place, problem.denoiser)
    if asked and levels is None:
        raise ValueError(f"--spacing measured needs {LEVELS} beside the network; {problem.name} has none")
    return levels


def _named(options: argparse.Namespace, sde: SDE, levels: Measured | None) -> Iterator[tuple[str, str, int]]:
    """Solver, spacing and budget of each run: all solvers on all spacings, or each solver on its default."""
    for solver in dict.fromkeys(SOLVERS if options.solver == ["all"] else options.solver):
        default = MEASURED if levels and solver == "auto" else program_spacing(sde, solver)
        specs = [OWN] if is_tuned(solver) else options.spacing or [default]
        yield from product([solver], dict.fromkeys(specs), dict.fromkeys(options.nfe))


def _asked(options: argparse.Namespace, denoiser: DenoiserLike, levels: Measured | None) -> list[Asked]:
    """The runs of the command line.

    With ``--solver all``, a solver that cannot keep to a budget is left out with a message, and a solver with
    a tolerance runs once, with any number of calls.
    """
    every = options.solver == ["all"]
    asked: list[Asked] = []
    for solver, spec, nfe in _named(options, denoiser.sde, levels):
        if spec == OWN:
            asked.append(Asked(solver, OWN, nfe, _tuned(options, solver, nfe, denoiser)))
            continue
        tolerant = every and isinstance(SOLVERS[solver], PerSampleIntegrator | SciPy)
        if tolerant and nfe != max(options.nfe):
            continue
        try:
            budget = None if tolerant else nfe
            spacing = levels if spec == MEASURED else spec
            planned = prepare(solver, denoiser.sde, budget, spacing, to_clean=options.to_clean)
        except ValueError as error:
            if not every:
                raise ValueError(f"--solver {solver} --nfe {nfe}: {error}") from None
            print(f"left out: {solver} at {nfe} calls: {error}", file=sys.stderr)
            continue
        asked.append(Asked(solver, spec, nfe, planned))
    return asked


def _tuned(options: argparse.Namespace, name: str, nfe: int, denoiser: DenoiserLike) -> Plan:
    """A tuned plan, checked here against the network, because runs use the timed denoiser in its place."""
    try:
        plan = tuned_plan(name, denoiser.sde, nfe, to_clean=options.to_clean)
    except ValueError as error:
        raise ValueError(f"--solver {name} --nfe {nfe}: {error}") from None
    check_made_for(plan, denoiser)
    return replace(plan, about=None)


if __name__ == "__main__":
    sys.exit(main())
