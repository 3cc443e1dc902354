"""Measure and certify every solver on every SDE: ``python benchmarks/certify.py``.

Uses no network and no samples: the denoiser of the data is known exactly, and all is in float64. Prints a
table; writes all figures as JSON and, on request, a page of Markdown. Exits with 1 if a figure is off.

- order: the order of convergence on the probability-flow ODE of a mixture of normal distributions (its
  denoiser is not linear), against a reference with error 1e-12. For a solver that draws noise: the weak
  order, from the law below. The measured order is the larger slope of the last two doublings of the steps
  with errors above 1e-11; two, because an error may pass through zero in one. It may be less than the claim
  by 0.2 at most. While it is less, or more than the claim by 1.5, the steps double again, up to 640, because
  a high order shows late.
- law: on normal data a run is linear in its noise. The real executor carries the factors of every draw, so
  the mean and the deviation at the end are exact. Their error must converge with the same order.
- identity: if all data is one point, every exponential solver ends exactly at the right state, on any grid.
- calls: counted, as planned, and within the budget.
- amplification: the sum of absolute weights on network outputs in a line; a figure without a limit.
- sweep: with 1 to 30, 50, 100, 250 and 1,000 steps, to both ends, in float32 and in float64, on data of two
  normal distributions, the end is finite, and the calls are the planned ones.
- float32: in the sweep, the difference between the precisions, from the same start and noise, is rounding,
  for any number of steps: the error in float32 is at most 10 times that in float64, plus 1e-5.
- predictions: a network of any prediction, made from the mixture's score, samples what the denoiser samples.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import command
from certificates.depth import FULL, ITERATED, QUICK, Depth, Record, sde_name
from certificates.figures import certify
from certificates.page import markdown, print_table
from certificates.report import report_of
from known import SDES
from pool import spread
from tqdm import tqdm

from scoresde import SOLVERS, solver_of
from scoresde.files import write_atomically
from scoresde.registry import lookup


def main(arguments: Sequence[str] | None = None) -> int:
    """Certify; 1 if a figure is off; bad input is one line on stderr and 2."""
    return command.execute(_parser(), _main, arguments)


def _main(options: argparse.Namespace) -> int:
    report = run(options)
    write_atomically(options.out, json.dumps(report, indent=1, allow_nan=False).encode())
    if options.markdown:
        write_atomically(options.markdown, markdown(report).encode())
    print_table(report)
    print(f"\nAll figures: {options.out}")
    return 1 if report["faults"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    add = parser.add_argument
    add(
        "--solver",
        nargs="+",
        default=[*SOLVERS, *ITERATED],
        metavar="NAME",
        help="solvers; options as NAME:key=value; default: all, and Adams methods of high order",
    )
    add("--sde", nargs="+", default=list(SDES), metavar="NAME", help=f"SDEs; default: all, {', '.join(SDES)}")
    add("--quick", action="store_true", help="fewer SDEs and steps")
    add(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes; default: one for each core",
    )
    add("--out", type=Path, metavar="FILE", help="all figures as JSON; default %(default)s")
    parser.set_defaults(out=Path("runs/certificates.json"))
    add("--markdown", type=Path, metavar="FILE", help="also write the table as a page")
    command.add_shared(parser, "quiet")
    return parser


def run(options: argparse.Namespace) -> Record:
    """The report on the solvers and SDEs of the command line.

    Raises:
        ValueError: an unknown solver or SDE, or another bad option.
    """
    command.at_least(1, options, "jobs")
    solvers = {name: solver_of(name) for name in options.solver}
    depth = QUICK if options.quick else FULL
    problems = _problems(options, depth)
    for path in filter(None, (options.out, options.markdown)):
        command.check_writable(path)
    tasks = [(name, problem, depth) for name, problem in product(solvers, problems)]
    found: dict[tuple[str, str], Record] = {}
    with tqdm(total=len(tasks), unit="proof", smoothing=0, disable=options.quiet) as bar:
        for record in spread(certify, tasks, options.jobs):
            found[record["solver"], record["sde"]] = record
            bar.set_description(record["solver"])
            bar.update()
    head = {"format": "scoresde certificates 1", "quick": options.quick}
    return head | report_of(solvers, problems, found, depth)


def _problems(options: argparse.Namespace, depth: Depth) -> list[str]:
    """The problems of a depth on the SDEs of the command line."""
    for name in options.sde:
        lookup("SDE", name, SDES)
    problems = [name for name in depth.problems if sde_name(name) in options.sde]
    if not problems:
        raise ValueError(f"--quick certifies on {', '.join(depth.problems)}, got --sde {options.sde[0]}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
