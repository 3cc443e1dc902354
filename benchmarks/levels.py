"""Default and measured levels against other projects: ``python benchmarks/levels.py --part mixtures``.

Part ``mixtures``: two mixtures with exact scores under three processes, errors to the exact ends of the same
noises, in float64. k-diffusion, diffusers and azula run all their deterministic samplers with all options on
all their grids, and the best counts: hindsight is on their side. Part ``shipped``: the included network
against ``deis`` on ``karras``. Part ``sde``: solvers with noise. Writes JSON lines, so that the same command
continues after a stop and does not repeat the runs of others; draws a picture. A project that is not
installed has no rows; see ``requirements-peers.lock``.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import command
import torch
from contest import Contest
from exact_ends import paths_of
from kept import Kept
from level_pictures import draw_levels
from level_tables import best_of, tables
from lines import Record, lines_file
from peer_samplers import PROJECTS, versions
from rich.table import Table
from sde_levels import sde_levels
from shipped_levels import shipped_levels
from tables import console
from tqdm import tqdm

from scoresde.registry import lookup
from scoresde.spacings import default_spacing
from scoresde.tuning.measured_levels import measured

PROBLEMS = ("gmm2", "gmm64")
PROCESSES = ("edm", "vp", "rectified-flow")
EVERY, FINALISTS = 8, 40  # of how many paths one is for the first round of the peers; and the last one's size


def mixtures(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """The tables of the mixtures, after their picture."""
    records: list[Record] = []
    for problem in options.problem:
        for process in options.sde:
            records += _contest(problem, process, options, kept)
    best = best_of(records)
    draw_levels(best, kept.file.with_name("levels.png"))
    yield from tables(best)


def _contest(problem: str, process: str, options: argparse.Namespace, kept: Kept) -> Iterator[Record]:
    """The records of one problem."""
    with tqdm(options.nfe, disable=options.quiet, desc=f"{problem} {process}") as budgets:
        paths = paths_of(problem, process, options.n_samples, options.seed, options.converged)
        tqdm.write(f"{problem} {process}: the exact ends have an RMSE of {paths.own_error:.1e}")
        about = {"n_samples": options.n_samples, "seed": options.seed, "converged_nfe": options.converged}
        contest = Contest(paths, kept, {"part": "mixtures", **about}, EVERY, FINALISTS)
        levels = measured(paths.denoiser, paths.x.shape[1:], budgets=options.nfe, dtype=torch.float64)
        for nfe in budgets:
            yield contest.ours("default", "auto", default_spacing(paths.sde), nfe)
            yield contest.ours("measured", "auto", levels, nfe)
            yield from contest.candidates(nfe)
            yield from contest.peers(nfe)


# Each part, and its budgets, samples and calls of the converged run where the command line gives none.
Part = Callable[[argparse.Namespace, Kept], Iterator[Table]]
PARTS: dict[str, tuple[Part, Record]] = {
    "mixtures": (mixtures, {"nfe": [5, 8, 10, 20, 50], "n_samples": 1024, "converged": 600}),
    "shipped": (shipped_levels, {"nfe": [5, 8, 10, 20], "n_samples": 1000, "converged": 120}),
    "sde": (sde_levels, {"nfe": [10, 20], "n_samples": 131072, "converged": None}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; bad input is one line on stderr and 2."""
    return command.execute(_parser(), _main, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    for name, known in (("part", PARTS), ("problem", PROBLEMS), ("sde", PROCESSES)):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            default=list(known),
            metavar="NAME",
            help=", ".join(known) + "; default: all",
        )
    command.add_shared(
        parser, "nfe", "n-samples", "converged", "seed", "out", "quiet", nfe=None, n_samples=None
    )
    return parser


def _main(options: argparse.Namespace) -> None:
    for name, known in (("part", PARTS), ("problem", PROBLEMS), ("sde", PROCESSES)):
        for value in getattr(options, name):
            lookup(name, value, dict.fromkeys(known))
    command.at_least(2, options, "nfe", "n_samples")
    command.at_least(8, options, "converged")
    kept = Kept(lines_file(options.out, "levels.jsonl"))
    if missing := [project for project in PROJECTS if project not in versions()]:
        print(f"not installed, so without rows: {', '.join(missing)}; see requirements-peers.lock")
    for name in options.part:
        part, own = PARTS[name]
        given = {key: value for key, value in vars(options).items() if value is not None}
        for table in part(argparse.Namespace(**own | given), kept):
            console().print(table)
    print(f"\nJSON lines: {kept.file}")


if __name__ == "__main__":
    sys.exit(main())
