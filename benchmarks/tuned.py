"""Tuned solvers beside the best stock ones: ``python benchmarks/tuned.py``, or ``--problem gmm64 --nfe 5``.

The best stock solver is an oracle's choice: all deterministic tables on all spacings are screened on a few
samples, then on more, and of the best few, by each measure, the best on the evaluation's first seed counts.
Writes JSON lines, by which a run that was stopped goes on, and prints a table of each problem. A plan is the
one that ships, or comes from --plans (FOLDER/tuned-N.json or FOLDER/SDE/tuned-N.json), or is tuned here, on
noises that no evaluation draws. ``--ablation`` leaves out parts of the tuning, one at a time.
"""

import argparse
import hashlib
import shutil
import statistics
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import command
import torch
from converged import converged_file, converged_plan, kept
from lines import append, read_lines
from problems import PROBLEMS, Problem, make_problem
from records import dtype_of, prepare_networks
from torch import Tensor
from tqdm import tqdm

from scoresde.devices import device_of, exact_float32
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.metrics.moments import Moments
from scoresde.plans.plan import Plan
from scoresde.pretrained import FOLDERS
from scoresde.processes.catalogue import SDES
from scoresde.registry import lookup
from scoresde.sampling.sample import sample
from scoresde.sampling.tuned import tuned_plan
from scoresde.solvers import SOLVERS
from scoresde.spacings.catalogue import spacing_of
from scoresde.tuning import Settings
from scoresde.tuning.candidates import STOCK_SPACINGS, stock_candidates
from scoresde.tuning.tune import tune

Record = dict[str, Any]

MEASURES = ("fd_reference", "rmse")  # to the converged samples, to the converged ends; "fd" is to the data

# What a tuned solver's measure may be, over the best stock solver's at as many calls.
BARS: dict[str, dict[str, dict[int, float]]] = {
    "mnist": {
        "fd_reference": {4: 1 / 2, 5: 1 / 3, 6: 1 / 3, 8: 1 / 3, 10: 1 / 2},
        "rmse": dict.fromkeys((4, 5, 6, 8, 10), 2 / 3),
    },
    "gmm64": {"rmse": dict.fromkeys((5, 8, 10), 1 / 2)},
}
# To the data: over the best stock solver's at other calls.
BEYOND = {"mnist": {6: 12}}

# What problems are tuned and measured with: where calls are cheap, many noises, and no bands.
DEFAULTS: dict[str, Any] = {
    **{"sde": ["edm"], "nfe": [4, 5, 6, 8, 10], "screen": [64, 500], "best": 3, "batch_size": 250},
    **{"samples": 256, "held_out": 1024, "bands": 8, "robust": True, "dtype": "float32", "compile": False},
    **{"converged": None, "plans": None, "finalists": 1},
}
OWN: dict[str, dict[str, Any]] = {
    "mnist": {"plans": FOLDERS["mnist"], "converged": 40, "best": 2, "dtype": "bfloat16", "compile": True},
    "gmm64": {
        **{"sde": ["edm", "vp", "rectified-flow"], "nfe": [5, 8, 10], "screen": [500, 4000]},
        **{"samples": 16384, "held_out": 4096, "bands": 0, "robust": False, "batch_size": 256},
    },
}

WHOLE: dict[str, Any] = {"robust": True, "bands": 8}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "all": WHOLE,
    "levels only": WHOLE | {"groups": ("knots", "first_step")},
    "weights only": WHOLE | {"groups": ("weights", "scales")},
    "levels and weights, no free step": WHOLE | {"groups": ("weights", "scales", "knots")},
    "not robust": WHOLE | {"robust": False},
    "no bands": WHOLE | {"bands": 0},
    "neither robust nor bands": {"robust": False, "bands": 0},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; bad input is one line on stderr and 2."""
    options = _parser().parse_args(arguments)
    return command.command("tuned.py", lambda: _main(options))


def _main(options: Namespace) -> int:
    settings = [settled(options, problem) for problem in options.problem]
    for own in settings:
        print(f"{own.problem}:\n\n{ablation(own) if own.ablation else table(run(own))}\n")
    print(f"JSON lines: {command.lines_file(options.out, 'tuned.jsonl')}")
    return 0


def settled(options: Namespace, problem: str) -> Namespace:
    """The options for one problem: its own, where the command line does not say; ValueError for bad ones."""
    lookup("problem", problem, PROBLEMS)
    for kind, names, known in (("SDE", options.sde, SDES), ("solver", options.solver, SOLVERS)):
        for name in names or ():
            lookup(kind, name, known)
    for spec in options.spacing:
        spacing_of(spec)
    if options.converged is not None and options.converged < 1:
        raise ValueError(f"--converged must be at least 1, got {options.converged}")
    own = DEFAULTS | OWN.get(problem, {})
    if options.tune or options.ablation:
        own["plans"] = None
    given = {name: value for name, value in vars(options).items() if value is not None}
    return Namespace(**own | given | {"problem": problem})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tuned.py",
        description=f"{(__doc__ or '').split(':')[0]}. What is not given is as a problem's bars ask.",
    )
    add = parser.add_argument
    add("--problem", nargs="+", default=list(OWN), metavar="NAME", help=", ".join(PROBLEMS))
    add("--sde", nargs="+", metavar="NAME", help=", ".join(SDES))
    add("--nfe", nargs="+", type=int, metavar="N")
    add("--plans", type=Path, metavar="FOLDER", help="of tuned-N.json; default, those that ship, or --tune")
    add("--tune", action="store_true", help="tune here, though tables ship")
    add("--seed", nargs="+", type=int, default=[0, 1, 2], help="of the evaluations' noises; default 0 1 2")
    add("--n-samples", type=int, default=10_000, metavar="N", help="default 10000")
    add("--screen", nargs="+", type=int, metavar="N", help="samples of all solvers, of those that go on, ...")
    add("--best", type=int, metavar="K", help="the last of these, by each measure")
    add("--samples", type=int, metavar="N", help="noises of a tuning done here")
    add("--held-out", type=int, metavar="N", help="noises of its gate")
    add("--bands", type=int, metavar="N", help="of energies in its objective")
    add("--robust", action=argparse.BooleanOptionalAction, help="samples that it cannot follow count less")
    add("--starts", type=int, default=4, metavar="N", help="of its fit; default 4")
    add("--finalists", type=int, metavar="N", help="of these, that are fitted to the end")
    add("--solver", nargs="+", default=[], metavar="NAME", help="stock solvers; default, all")
    add("--spacing", nargs="+", default=list(STOCK_SPACINGS), metavar="NAME", help="of the stock solvers")
    add("--converged", type=int, metavar="N", help="calls of the converged run")
    add("--batch-size", type=int, metavar="N")
    add("--dtype", metavar="TYPE", help="the network's: float32 or bfloat16; a fit is in float32")
    add("--compile", action=argparse.BooleanOptionalAction, help="compile the network (torch.compile)")
    add("--device", default="cpu", help="cpu, cuda, ...")
    add("--ablation", action="store_true", help="what each part of the tuning is worth")
    add("--out", type=Path, default=Path("results"), metavar="PATH", help="a folder, or a file named .jsonl")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


class Bench:
    """A problem under an SDE, and the measures of runs on it."""

    def __init__(self, options: Namespace, sde: str) -> None:
        self.options, self.sde = options, sde
        self.device = device_of(options.device)
        exact_float32()
        self.dtype = dtype_of(options.dtype)
        if self.dtype == torch.float64 or min(options.n_samples, *options.screen, *options.nfe) < 2:
            raise ValueError("--n-samples, --screen and --nfe must be at least 2, --dtype no float64")
        self.problem: Problem = self._problem(self.dtype)
        self.calls = options.converged or self.problem.converged
        self.file = command.lines_file(options.out, "tuned.jsonl")
        self._lines: dict[Path, list[Record]] = {}
        self._exact: dict[int, Tensor] = {}
        self._moments: dict[tuple[int, int], Moments] = {}

    def _problem(self, dtype: torch.dtype) -> Problem:
        options = self.options
        problem = make_problem(options.problem, self.sde, None, None if dtype == torch.float32 else dtype)
        prepare_networks(problem, self.device, dtype, options.compile)
        return problem

    @cached_property
    def precise(self) -> Problem:
        """The problem in float32, that tables are fitted to; its network is compiled once for all fits."""
        return self.problem if self.dtype == torch.float32 else self._problem(torch.float32)

    def draw(self, plan: Any, n: int, seed: int) -> Tensor:
        """The first n samples of a seed, on the host."""
        labels = self.problem.labels
        return sample(
            self.problem.denoiser,
            plan,
            (n, *self.problem.shape),
            seed=seed,
            cond=None if labels is None else labels(torch.arange(n)),
            batch_size=self.options.batch_size,
            device=self.device,
        ).cpu()

    def exact(self, seed: int) -> Tensor:
        """Where the noises of a seed end, kept in a file."""
        if seed not in self._exact:
            named = Namespace(**vars(self.options) | {"seed": seed})
            file = converged_file(self.file.parent, self.problem, named, self.calls)
            plan, n = converged_plan(self.problem, self.calls), self.options.n_samples
            self._exact[seed] = kept(file, lambda: self.draw(plan, n, seed), (n, *self.problem.shape))
        return self._exact[seed]

    def measure(self, plan: Plan, seed: int, n: int, solver: str) -> Record:
        """FD to the converged samples and to the data, and RMSE to the converged ends, of n samples.

        Of a run that has a line already, that line.
        """
        about = {
            **{"problem": self.problem.name, "sde": self.sde, "nfe": plan.nfe, "seed": seed, "n_samples": n},
            **{"dtype": self.options.dtype, "converged": self.calls, "solver": solver},
            "plan": hashlib.sha256(repr((plan.lines, plan.start, plan.end)).encode()).hexdigest()[:12],
        }
        file = self.file if n == self.options.n_samples else self.file.with_name("screen.jsonl")
        if file not in self._lines:
            self._lines[file] = [line for _, line in read_lines(file)] if file.exists() else []
        for known in self._lines[file]:
            if known.items() >= about.items():
                return dict(known)
        x, exact, of = self.draw(plan, n, seed), self.exact(seed)[:n], self.problem.features.of
        if (seed, n) not in self._moments:
            self._moments[seed, n] = feature_moments(of, exact)
        moments = feature_moments(of, x)
        record = {
            **about,
            "fd_reference": frechet_distance(moments, self._moments[seed, n]),
            "fd": frechet_distance(moments, self.problem.data),
            "rmse": (x - exact).square().mean().sqrt().item(),
        }
        append(file, record)
        self._lines[file].append(record)
        return record

    def stocks(self, nfe: int, measures: Sequence[str], bar: Any) -> dict[str, Plan]:
        """The stock solvers that are among the best few by any of the measures, on more and more samples."""
        named = {name: SOLVERS[name] for name in self.options.solver or SOLVERS}
        entered = stock_candidates(self.problem.denoiser.sde, nfe, named, self.options.spacing)
        plans = {entrant.name: entrant.table.plan() for entrant in entered}
        for heat, few in enumerate(self.options.screen):
            most = self.options.best * 4 ** (len(self.options.screen) - 1 - heat)
            records = []
            for name, plan in plans.items():
                bar.set_description(f"{nfe} calls, {name}, {few} samples")
                with suppress(FloatingPointError):  # of a solver that is not stable here
                    records.append(self.measure(plan, self.options.seed[0], few, name))
                bar.update()
            plans = {name: plans[name] for name in _best(records, measures, most)}
        return plans

    def tuned(self, nfe: int) -> Plan:
        """The plan of a file, or one that is tuned here, once."""
        sde = self.problem.denoiser.sde
        if self.options.plans is not None:
            files = [self.options.plans / part / f"tuned-{nfe}.json" for part in (self.sde, "")]
            file = next((file for file in files if file.exists()), files[-1])
            return tuned_plan(f"tuned:{file}", sde, nfe)
        return tuned_plan(f"tuned:{self.fit(nfe)}", sde, nfe)

    def fit(self, nfe: int, part: str = "whole", **changed: Any) -> Path:
        """The file of a plan that is tuned here, unless it was; all parts of an ablation have one teacher."""
        options, labels = self.options, self.problem.labels
        numbers = (options.samples, options.held_out, options.starts, options.finalists, options.bands)
        about = (options.dtype, *numbers, "robust" if options.robust else "plain")
        folder = self.file.parent / "plans" / "-".join(map(str, (self.problem.name, self.sde, *about)))
        file: Path = folder / part.replace(" ", "-") / f"tuned-{nfe}.json"
        if file.exists():
            return file
        names = ("samples", "held_out", "starts", "finalists", "bands", "robust")
        settings = Settings(**{name: getattr(options, name) for name in names} | changed)
        teacher, state = folder / "teacher.safetensors", file.parent / "state"
        state.mkdir(parents=True, exist_ok=True)
        if teacher.exists():
            shutil.copy(teacher, state)
        plan, _ = tune(
            self.precise.denoiser,
            nfe,
            self.problem.shape,
            cond=None if labels is None else labels(torch.arange(10_000)),
            settings=settings,
            batch_size=options.batch_size,
            device=self.device,
            draft=None if self.precise is self.problem else self.problem.denoiser,
            state=state,
            progress=not options.quiet,
        )
        shutil.copy(state / teacher.name, folder)
        plan.save(file)
        return file


def _best(records: Sequence[Record], measures: Sequence[str], most: int = 1) -> dict[str, None]:
    """The solvers that are among the best few by any of the measures."""
    return {
        str(record["solver"]): None
        for measure in measures
        for record in sorted(records, key=lambda one: float(one[measure]))[:most]
    }


def run(options: Namespace) -> list[Record]:
    """Records of tuned and stock solvers, each written as soon as it is there."""
    records = []
    with tqdm(unit="run", disable=options.quiet) as bar:
        for sde in options.sde:
            bench = Bench(options, sde)
            beyond = BEYOND.get(bench.problem.name, {})
            tuned = {nfe: bench.tuned(nfe) for nfe in options.nfe}
            for nfe in sorted({*options.nfe, *(beyond[n] for n in options.nfe if n in beyond)}):
                measures = MEASURES if nfe in tuned else ("fd",)
                stocks = bench.stocks(nfe, measures, bar)
                for seed in options.seed:
                    runs = stocks | ({"tuned": tuned[nfe]} if nfe in tuned else {})
                    made = []
                    for name, plan in runs.items():
                        bar.set_description(f"{nfe} calls, seed {seed}, {name}")
                        made.append(bench.measure(plan, seed, options.n_samples, name))
                        bar.update()
                    records += made
                    if seed == options.seed[0]:  # the oracle's choice
                        theirs = [record for record in made if record["solver"] != "tuned"]
                        stocks = {name: stocks[name] for name in _best(theirs, measures)}
    return records


def table(records: Sequence[Record]) -> str:
    """Tuned beside the best stock solver of each seed, and whether the bar holds, in Markdown."""
    rows = ["| SDE | calls | measure | tuned | best stock | which | ratio | bar | |", "|---" * 9 + "|"]
    problem = records[0]["problem"]
    for sde, nfe in sorted({(r["sde"], r["nfe"]) for r in records if r["solver"] == "tuned"}):
        asked = [(measure, nfe, BARS.get(problem, {}).get(measure, {}).get(nfe)) for measure in MEASURES]
        if (calls := BEYOND.get(problem, {}).get(nfe)) is not None:
            asked.append(("fd", calls, 1.0))
        for measure, calls, bar in asked:
            here = [r for r in records if r["sde"] == sde]
            ours = {r["seed"]: r[measure] for r in here if (r["nfe"], r["solver"]) == (nfe, "tuned")}
            theirs = [r for r in here if r["nfe"] == calls and r["solver"] != "tuned"]
            best = [
                min((r for r in theirs if r["seed"] == seed), key=lambda r: float(r[measure]))
                for seed in ours
            ]
            ratio = statistics.mean(ours.values()) / statistics.mean(r[measure] for r in best)
            name = measure if calls == nfe else f"{measure}, stock at {calls} calls"
            verdict = ("", "") if bar is None else (f"{bar:.2f}", "holds" if ratio <= bar else "**fails**")
            cells = [sde, str(nfe), name, _spread(list(ours.values())), _spread([r[measure] for r in best])]
            cells += [", ".join(dict.fromkeys(r["solver"] for r in best)), f"{ratio:.3f}", *verdict]
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def ablation(options: Namespace) -> str:
    """The measures of tunings that lack a part, in Markdown."""
    rows = [f"| SDE | calls | tuning | {' | '.join(MEASURES)} |", "|---" * (3 + len(MEASURES)) + "|"]
    for sde in options.sde:
        bench = Bench(options, sde)
        for nfe in options.nfe:
            for name, changed in ABLATIONS.items():
                plan = Plan.load(bench.fit(nfe, name, **changed))
                won = bool((plan.about or {}).get("tuned"))
                records = [
                    bench.measure(plan, seed, options.n_samples, f"tuned, {name}") for seed in options.seed
                ]
                cells = [_spread([record[measure] for record in records]) for measure in MEASURES]
                label = name if won else f"{name} (stock: it did not win)"
                rows.append("| " + " | ".join([sde, str(nfe), label, *cells]) + " |")
    return "\n".join(rows)


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    mean = f"{statistics.mean(values):.3g}"
    return f"{mean} ± {statistics.stdev(values):.1g}" if len(values) > 1 else mean


if __name__ == "__main__":
    sys.exit(main())
