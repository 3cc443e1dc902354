"""Compare tuned solvers with the best stock ones: ``python benchmarks/tuned.py``.

The best stock solver is known only after the measurement: all deterministic tables on all spacings run on a
few samples, the better ones on more; of the best few by each measure, the best on the first seed counts.
Writes JSON lines, so that the same command continues after a stop; prints a table for each problem. A plan
ships, or comes from --plans (FOLDER/tuned-N.json or FOLDER/SDE/tuned-N.json), or is tuned here, with noises
that no evaluation uses. ``--ablation`` leaves out parts of the tuning, one at a time.
"""

import argparse
import statistics
import sys
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path

import command
from bars import ABLATIONS, BARS, BEYOND, MEASURES, OWN, settled
from evaluation import Evaluation, best_of
from lines import Record, lines_file
from problems import PROBLEMS
from tqdm import tqdm

from scoresde.plans.plan import Plan
from scoresde.processes.catalogue import SDES
from scoresde.tuning.candidates import STOCK_SPACINGS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; bad input is one line on stderr and 2."""
    return command.execute(parser(), _main, arguments)


def _main(options: Namespace) -> None:
    for own in [settled(options, problem) for problem in options.problem]:
        print(f"{own.problem}:\n\n{ablation(own) if own.ablation else table(run(own))}\n")
    print(f"JSON lines: {lines_file(options.out, 'tuned.jsonl')}")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line; most defaults depend on the problem: see bars.py."""
    found = command.parser_of(__file__, __doc__)
    add = found.add_argument
    add("--problem", nargs="+", default=list(OWN), metavar="NAME", help=", ".join(PROBLEMS))
    add("--sde", nargs="+", metavar="NAME", help=", ".join(SDES))
    add("--nfe", nargs="+", type=int, metavar="N", help="budgets of network calls for each sample")
    add("--plans", type=Path, metavar="FOLDER", help="folder of tuned-N.json; default: included, or --tune")
    add("--tune", action="store_true", help="tune here, even if there are included tables")
    add("--seed", nargs="+", type=int, default=[0, 1, 2], help="seeds of the evaluation; default 0 1 2")
    add("--screen", nargs="+", type=int, metavar="N", help="samples in each round of stock solvers")
    add("--best", type=int, metavar="K", help="stock solvers after the last round, for each measure")
    add("--samples", type=int, metavar="N", help="number of noises for --tune")
    add("--held-out", type=int, metavar="N", help="number of noises for the test of its result")
    add("--bands", type=int, metavar="N", help="number of energy bands in its objective")
    add("--robust", action=BooleanOptionalAction, help="reduce the weight of outliers in its fit")
    add("--starts", type=int, default=4, metavar="N", help="number of starts of its fit; default 4")
    add("--finalists", type=int, metavar="N", help="number of these starts that run to the end")
    add("--solver", nargs="+", default=[], metavar="NAME", help="stock solvers; default: all")
    add("--spacing", nargs="+", default=list(STOCK_SPACINGS), metavar="NAME", help="stock spacings")
    add("--compile", action=BooleanOptionalAction, help="compile the network (torch.compile)")
    add("--ablation", action="store_true", help="measure how much each part of the tuning helps")
    add("--batch-size", type=int, metavar="N", help="samples in each batch")
    add("--dtype", metavar="TYPE", help="precision of the network: float32 or bfloat16; a fit is in float32")
    command.add_shared(found, "n-samples", "converged", "device", "out", "quiet", n_samples=10_000)
    return found


def run(options: Namespace) -> list[Record]:
    """Records of tuned and stock solvers; each is written as soon as it is made."""
    records = []
    with tqdm(unit="run", disable=options.quiet) as bar:
        for sde in options.sde:
            bench = Evaluation(options, sde)
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
                    if seed == options.seed[0]:
                        theirs = [record for record in made if record["solver"] != "tuned"]
                        stocks = {name: stocks[name] for name in best_of(theirs, measures)}
    return records


def table(records: Sequence[Record]) -> str:
    """Tuned solvers, the best stock solver of each seed, and whether the bar holds, in Markdown."""
    rows = ["| SDE | calls | measure | tuned | best stock | which | ratio | bar | |", "|---" * 9 + "|"]
    problem = records[0]["problem"]
    for sde, nfe in sorted({(r["sde"], r["nfe"]) for r in records if r["solver"] == "tuned"}):
        asked = [(measure, nfe, BARS.get(problem, {}).get(measure, {}).get(nfe)) for measure in MEASURES]
        if (calls := BEYOND.get(problem, {}).get(nfe)) is not None:
            asked.append(("fd", calls, 1.0))
        here = [r for r in records if r["sde"] == sde]
        for measure, calls, bar in asked:
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
    """The measures of tunings without one of their parts, in Markdown."""
    rows = [f"| SDE | calls | tuning | {' | '.join(MEASURES)} |", "|---" * (3 + len(MEASURES)) + "|"]
    for sde in options.sde:
        bench = Evaluation(options, sde)
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
