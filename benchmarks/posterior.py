"""Posteriors against the exact ones: ``python benchmarks/posterior.py --part mixtures``.

Part ``mixtures``: linear observations of mixtures with exact scores, those that leave several modes open; the
library's methods, and azula's where it is installed, against the exact posterior, in float64. Part
``tilted``: guidance and particles against the tilted law. Part ``digits``: half digits and 4x
super-resolution with the included network, and their sheets. Writes JSON lines, so that the same command
continues after a stop and does not repeat runs; draws pictures beside these. On one core the parts take about
MINUTES minutes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import product

import command
from kept import Kept, digest
from lines import Record, lines_file
from posterior_digits import digits
from posterior_methods import END, METHODS, Method, Task
from posterior_peers import azula_methods
from posterior_pictures import draw_posteriors
from posterior_problems import PROBLEMS, Problem
from posterior_tables import rows_of, tables
from posterior_truth import Truth
from rich.table import Table
from tables import console
from tilted_law import tilted
from tqdm import tqdm

from scoresde import __version__
from scoresde.registry import lookup

PEERS = ("azula", "deepinv")  # deepinv has no rows yet


def methods() -> dict[str, Method]:
    """All methods by name; azula's where it is installed."""
    return METHODS | (dict(azula_methods()) if find_spec("azula") else {})


def mixtures(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """The tables of the mixtures, after their picture."""
    problems = [PROBLEMS[name]() for name in options.problem]
    chosen = {name: methods()[name] for name in options.method}
    places = [(p, tau, seed) for p in problems for tau in p.taus for seed in range(options.seeds)]
    records = []
    with tqdm(total=len(places) * len(chosen), disable=options.quiet) as bar:
        for problem, tau, seed in places:
            study = _Study(problem, tau, seed, options)
            for name, method in chosen.items():
                bar.set_description(f"{problem.name} {tau:g}, {name}")
                if method.fits(problem) and seed < method.seeds:
                    records.append(study.record(name, method, kept))
                bar.update()
    draw_posteriors(rows_of(records), kept.file.with_name("posterior.png"))
    yield from tables(records)


class _Study:
    """The runs on the observations of one problem, noise and seed; the truth is made at the first run."""

    def __init__(self, problem: Problem, tau: float, seed: int, options: argparse.Namespace) -> None:
        self.problem, self.tau, self.seed, self.options = problem, tau, seed, options
        self.made: tuple[Task, Truth] | None = None

    def record(self, name: str, method: Method, kept: Kept) -> Record:
        """The figures of a method, and what a draw costs."""
        options, prior = self.options, self.problem.prior
        numbers = (prior.means, prior.axes, prior.variances, prior.log_shares, self.problem.matrix)
        names = {
            **{"part": "mixtures", "problem": self.problem.name, "tau": self.tau, "method": name},
            **{"observations": options.observations, "draws": options.draws, "seed": self.seed},
            **{"run": method.key, "law": digest(repr([n.tolist() for n in numbers])), "version": __version__},
        }

        def make() -> Record:
            task, truth = self._truth()
            drawn = method.draw(task)
            return {"calls": drawn.cost.calls, "vjps": drawn.cost.vjps, **truth.figures(drawn.x)}

        return kept.record(names, make)

    def _truth(self) -> tuple[Task, Truth]:
        if self.made is None:
            draws = self.options.draws
            y = self.problem.observations(self.tau, self.options.observations, self.seed)
            task = Task(self.problem, self.tau, y, draws, self.seed)
            self.made = task, Truth(self.problem, self.tau, y, END, draws)
        return self.made


# Each part, and its number of seeds where the command line gives none.
Part = Callable[[argparse.Namespace, Kept], Iterator[Table]]
PARTS: dict[str, tuple[Part, int]] = {
    "mixtures": (mixtures, 3),
    "tilted": (tilted, 10),
    "digits": (digits, 1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; bad input is one line on stderr and 2."""
    return command.execute(_parser(), _main, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser_of(__file__, __doc__)
    for name, known in (("part", PARTS), ("problem", PROBLEMS), ("method", methods())):
        shown = ", ".join(f"'{one}'" if " " in one else one for one in known)
        parser.add_argument(
            f"--{name}", nargs="+", default=list(known), metavar="NAME", help=f"{shown}; default: all"
        )
    for name, default, what in (
        ("observations", 20, "of each problem, noise and seed"),
        ("draws", 256, "of each posterior; a multiple of 64"),
        ("seeds", None, "the number of seeds, each with its own observations; default 3, tilted 10"),
        ("truths", 50, "digits of the part digits"),
        ("samples", 4096, "samples of the part tilted; a multiple of 64"),
    ):
        text = what if default is None else f"{what}; default %(default)s"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    command.add_shared(parser, "out", "quiet")
    return parser


def _main(options: argparse.Namespace) -> None:
    for name, known in (("part", PARTS), ("problem", PROBLEMS), ("method", methods())):
        for value in getattr(options, name):
            lookup(name, value, dict.fromkeys(known))
    command.at_least(1, options, "observations", "seeds")
    command.at_least(2, options, "draws", "truths", "samples")
    groups = {methods()[name].group for name in options.method} if "mixtures" in options.part else {1}
    for count, group in (*product(["draws"], groups), ("samples", 64)):
        if getattr(options, count) % group:
            raise ValueError(f"--{count} must be a multiple of {group}, got {getattr(options, count)}")
    kept = Kept(lines_file(options.out, "posterior.jsonl"))
    if missing := [project for project in PEERS if not find_spec(project)]:
        print(f"not installed, so without rows: {', '.join(missing)}")
    for name in options.part:
        part, seeds = PARTS[name]
        own = argparse.Namespace(**vars(options) | {"seeds": options.seeds or seeds})
        for table in part(own, kept):
            console().print(table)
    print(f"\nJSON lines: {kept.file}")


if __name__ == "__main__":
    sys.exit(main())
