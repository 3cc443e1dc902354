"""Compare scoresde with k-diffusion, diffusers and azula: ``python benchmarks/compare.py --nfe 10 20``.

Every method runs on the same network, levels, noise and number of calls. Two things depend on the project:
the form of the method, and the seconds around the network. A project that is not installed has no rows;
see ``requirements-peers.lock``. The SDE is edm, in whose variables the other projects compute; the spacing is
Karras's; all is in float32. diffusers receives the noise, because its networks estimate the noise.
"""

import argparse
import platform
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product, zip_longest
from pathlib import Path
from typing import cast

import command
import torch
from converged import Draws, converged_samples
from lines import Record, append, calls_of, lines_file
from own import add_problem, problem_of
from peers import Peer, azula, diffusers, k_diffusion
from problems import Problem
from rich.table import Table
from stopwatch import Timed, device_name
from tables import console
from torch import Tensor
from tqdm import tqdm

from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.noise import Noise, later
from scoresde.plans.plan import Plan
from scoresde.plans.tape import Solver
from scoresde.registry import lookup
from scoresde.sampling.sample import sample
from scoresde.solvers import solver_of
from scoresde.solvers.integrators.base import Integration
from scoresde.spacings import Grid, Karras

CPU = torch.device("cpu")
# The projects: the name of the package, and the function that makes a peer.
PACKAGES = {"k-diffusion": "k_diffusion", "diffusers": "diffusers", "azula": "azula"}
PEERS: dict[str, Callable[..., Peer]] = {
    "k-diffusion": k_diffusion,
    "diffusers": diffusers,
    "azula": azula,
}
Batches = Iterator[tuple[Tensor, float]]  # the samples of each batch, and its seconds


@dataclass(frozen=True)
class Method:
    """A method: our name of it, the other projects' forms of it, and its network calls in a step."""

    ours: str
    theirs: Mapping[str, Callable[[], Peer]]
    calls: int = 1


def _methods() -> dict[str, Method]:
    content = tomllib.loads(Path(__file__).with_name("methods.toml").read_text())
    return {
        name: Method(
            entry["ours"],
            {project: partial(make, **entry[project]) for project, make in PEERS.items() if project in entry},
            entry.get("calls", 1),
        )
        for name, entry in content.items()
    }


METHODS = _methods()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; bad input is one line on stderr and 2."""
    return command.execute(_parser(), _main, arguments)


def _main(options: argparse.Namespace) -> None:
    print_table(compare(options))
    print(f"\nJSON lines: {lines_file(options.out, 'compare.jsonl')}")


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    parser.add_argument(
        "--method",
        nargs="+",
        default=list(METHODS),
        metavar="NAME",
        help="methods; default: all, " + ", ".join(METHODS),
    )
    add_problem(parser)
    command.add_shared(parser, "nfe", "n-samples", "batch-size", "seed", "converged")
    command.add_shared(parser, "out", "quiet", out=Path("results/compare.jsonl"))
    return parser


def compare(options: argparse.Namespace) -> list[Record]:
    """A record for each method, number of calls and project; each is written as soon as it is made.

    Raises:
        ValueError, TypeError, OSError: a bad option; nothing is sampled then.
    """
    methods = {name: lookup("method", name, METHODS) for name in options.method}
    command.at_least(2, options, "n_samples", "batch_size", "converged", "nfe")
    problem = problem_of(options.problem, "edm", options.checkpoint)
    file = lines_file(options.out, "compare.jsonl")
    with tqdm(disable=options.quiet, unit="call") as bar:
        bar.set_description("converged")
        one = Comparison(problem, options, file.parent, bar.update)
        records = []
        for nfe, (name, method) in product(options.nfe, methods.items()):
            for project, run in one.projects(method, nfe):
                bar.set_description(f"{name} {nfe}, {project}")
                records.append({"method": name, "project": project} | one.measure(project, run, method, nfe))
                append(file, records[-1])
    return records


class Comparison:
    """A problem, the converged samples, and the measurements of runs by every project."""

    def __init__(
        self, problem: Problem, options: argparse.Namespace, folder: Path, tick: Callable[[], object]
    ) -> None:
        self.problem, self.options = problem, options
        self.timed = Timed(problem.denoiser, CPU, tick)
        self.calls: int = options.converged or problem.converged
        draws = Draws(options.n_samples, options.batch_size, options.seed)
        self.exact = converged_samples(
            folder, problem, draws, self.calls, lambda run: torch.cat([x for x, _ in self._ours(run)])
        )

    def projects(self, method: Method, nfe: int) -> Iterator[tuple[str, Batches]]:
        """The runs of a method: ours, then one for each project that is installed."""
        steps = nfe // method.calls
        yield "scoresde", self._ours(self._plan(method, steps))
        for project, make in method.theirs.items():
            try:
                peer = make()
            except ModuleNotFoundError:
                continue
            yield project, self._theirs(peer, steps)

    def measure(self, project: str, run: Batches, method: Method, nfe: int) -> Record:
        """The figures of a run within ``nfe`` calls."""
        problem, options, timed = self.problem, self.options, self.timed
        timed.calls = 0
        timed.seconds()
        batches = list(run)
        x, seconds = torch.cat([x for x, _ in batches]), sum(s for _, s in batches)
        moments = feature_moments(problem.features.of, x)
        stochastic = self._plan(method, nfe // method.calls).stochastic
        rmse = (x - self.exact).square().mean().sqrt().item()
        return {
            "version": version("scoresde" if project == "scoresde" else PACKAGES[project]),
            "problem": problem.name,
            "nfe": timed.calls // len(batches),
            "nfe_requested": nfe,
            "n_samples": options.n_samples,
            "batch_size": options.batch_size,
            "fd": frechet_distance(moments, problem.data),
            "fd_features": problem.features.name,
            "rmse_to_converged": None if stochastic else rmse,
            "converged_nfe": self.calls,
            "seconds": seconds,
            "seconds_around": seconds - timed.seconds(),
            "seed": options.seed,
            "device_name": device_name(CPU),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }

    def _plan(self, method: Method, steps: int) -> Plan:
        return Plan.make(cast(Solver, solver_of(method.ours)), self.problem.denoiser.sde, steps, Karras())

    def _ours(self, run: Plan | Integration) -> Batches:
        for ids, cond, x in self._starts(run.start.sigma):
            begin = time.perf_counter()
            end = sample(self.timed, run, x.shape, seed=self.options.seed, ids=ids, x=x, cond=cond)
            yield end, time.perf_counter() - begin

    def _theirs(self, peer: Peer, steps: int) -> Batches:
        levels = Grid.build(self.problem.denoiser.sde, steps, Karras()).levels
        for ids, cond, x in self._starts(levels[0].sigma):
            begin = time.perf_counter()
            noise = later(Noise(self.options.seed, ids, self.problem.shape))
            with torch.no_grad():
                end = peer(partial(self.timed, cond=cond), levels, x, noise)
            yield end, time.perf_counter() - begin

    def _starts(self, sigma: float) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        """Numbers, labels and first states of each batch."""
        for ids in torch.split(torch.arange(self.options.n_samples), self.options.batch_size):
            cond = self.problem.labels(ids) if self.problem.labels else None
            yield ids, cond, sigma * Noise(self.options.seed, ids, self.problem.shape)(0).float()


def print_table(records: Sequence[Record]) -> None:
    """A row for each record, a section for each method."""
    first = records[0]
    title = f"{first['problem']}, {first['n_samples']} samples, {first['device_name']}"
    table = Table("method", "NFE", "project", title=title)
    for column in (first["fd_features"], "RMSE to converged", "seconds", "around"):
        table.add_column(column, justify="right")
    for record, after in zip_longest(records, records[1:]):
        rmse = record["rmse_to_converged"]
        table.add_row(
            record["method"],
            calls_of(record),
            f"{record['project']} {record['version']}",
            f"{record['fd']:.4g}",
            "-" if rmse is None else f"{rmse:.6f}",
            f"{record['seconds']:.2f}",
            f"{record['seconds_around']:.3f}",
            end_section=after is None or after["project"] == "scoresde",
        )
    console().print(table)


if __name__ == "__main__":
    sys.exit(main())
