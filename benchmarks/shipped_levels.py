"""The included network at few calls: measured levels against DEIS on Karras' levels."""

import argparse
from collections.abc import Iterator, Sequence
from itertools import product, zip_longest
from pathlib import Path

import torch
from converged import Draws, converged_samples, key_of
from exact_ends import figures_of
from kept import Kept, plan_key
from level_tables import verdict
from lines import Record
from problems import Problem, make_problem
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from scoresde import __version__
from scoresde.plans.plan import Plan
from scoresde.pretrained import FOLDERS
from scoresde.sampling.prepare import prepare
from scoresde.sampling.sample import sample
from scoresde.solvers.integrators.base import Integration
from scoresde.spacings import FlowTime, Karras, Measured, Spacing
from scoresde.tuning.measured_levels import measured

BAR = {5: 0.66, 8: 0.42, 10: 0.36, 20: 0.3}  # of measured levels by RMSE, over deis on karras
BASE = "deis on karras"
LEVELS = "levels.json"  # beside the network: the levels that ship with it
BATCH = 100
ROWS: dict[str, tuple[str, Spacing | None]] = {
    BASE: ("deis", Karras()),
    "ipndm on karras": ("ipndm", Karras()),
    "default": ("auto", None),
    "auto on e=2, c=4": ("auto", FlowTime(2, 4)),
}


def shipped_levels(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """The table of the network's runs."""
    problem = make_problem("mnist", "edm")
    bench = Shipped(problem, options, kept)
    levels, source = levels_of(problem, options)
    rows = ROWS | {"measured": ("auto", levels)}
    records = []
    with tqdm(total=len(rows) * len(options.nfe), disable=options.quiet, desc="mnist") as bar:
        for nfe, (name, (solver, spacing)) in product(options.nfe, rows.items()):
            records.append(bench.record(name, solver, spacing, nfe))
            bar.update()
    own = bench.own_error()
    caption = f"measured: {source}; another converged run: RMSE {own['rmse']:.2g}, median {own['median']:.2g}"
    yield shipped_table(records, caption)


def levels_of(problem: Problem, options: argparse.Namespace) -> tuple[Measured, str]:
    """The levels that ship with the network, or levels measured now; and which they are."""
    file = Path(FOLDERS["mnist"]) / LEVELS
    if file.exists():
        return Measured.load(file), "the included levels"
    cond = problem.labels(torch.arange(1000)) if problem.labels else None
    found = measured(
        problem.denoiser, problem.shape, budgets=options.nfe, cond=cond, progress=not options.quiet
    )
    return found, "here, on other noises"


class Shipped:
    """Runs of the included network, and their errors to the converged run."""

    def __init__(self, problem: Problem, options: argparse.Namespace, kept: Kept) -> None:
        self.problem, self.options, self.kept = problem, options, kept
        calls: int = options.converged
        draws = Draws(options.n_samples, BATCH, options.seed)
        self.key = key_of(problem, draws, calls)
        self.exact = converged_samples(kept.file.parent, problem, draws, calls, self.draw)
        self.spread = self.exact.flatten(1).double().var(0).mean().sqrt().item()

    def own_error(self) -> Record:
        """The figures of another converged run, of the first samples: what the converged run cannot tell."""
        calls = self.options.converged
        names = {"part": "shipped", "role": "own error", "problem": self.key, "converged_nfe": calls}

        def make() -> Record:
            run = prepare("velocity-p5c6", self.problem.denoiser.sde, calls, FlowTime(2, 4))
            first = self.exact[:BATCH]
            return figures_of(self.draw(run, len(first)), first, self.spread)

        return self.kept.record(names, make)

    def record(self, name: str, solver: str, spacing: Spacing | None, nfe: int) -> Record:
        """The figures of a solver on levels."""
        plan = prepare(solver, self.problem.denoiser.sde, nfe, spacing)
        assert isinstance(plan, Plan)
        names = {
            **{"part": "shipped", "role": name, "method": solver, "nfe_requested": nfe, "nfe": plan.nfe},
            **{"n_samples": self.options.n_samples, "seed": self.options.seed, "problem": self.key},
            **{"version": __version__, "plan": plan_key(plan)},
        }
        return self.kept.record(names, lambda: figures_of(self.draw(plan), self.exact, self.spread))

    def draw(self, run: Plan | Integration, most: int | None = None) -> Tensor:
        """The samples of a run."""
        problem, samples = self.problem, []
        for ids in torch.split(torch.arange(most or self.options.n_samples), BATCH):
            cond = problem.labels(ids) if problem.labels else None
            shape = (len(ids), *problem.shape)
            samples.append(sample(problem.denoiser, run, shape, seed=self.options.seed, ids=ids, cond=cond))
        return torch.cat(samples)


def shipped_table(records: Sequence[Record], caption: str) -> Table:
    """The figures of each row, and its ratio to the base beside the bar."""
    base = {record["nfe_requested"]: record for record in records if record["role"] == BASE}
    table = Table(
        "calls", "levels", title="the included network, over the spread of the data", caption=caption
    )
    for name in ("RMSE", "median", "off by half a spread", f"RMSE / {BASE}", "median / same"):
        table.add_column(name, justify="right")
    for record, after in zip_longest(records, records[1:]):
        nfe = record["nfe_requested"]
        ratios = [record[figure] / base[nfe][figure] for figure in ("rmse", "median")]
        table.add_row(
            str(nfe),
            record["role"],
            *(f"{record[figure]:.3g}" for figure in ("rmse", "median")),
            f"{record['share']:.2%}",
            verdict(ratios[0], BAR if record["role"] == "measured" else {}, nfe),
            f"{ratios[1]:.3f}",
            end_section=after is None or after["nfe_requested"] != nfe,
        )
    return table
