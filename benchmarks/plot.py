"""Draw and print the JSON lines of run.py: ``python benchmarks/plot.py results/*.jsonl``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import command
from lines import SAME, Record, calls_of, groups, kept_budget, latest, read_runs
from pictures import draw_curves
from rich.table import Table
from tables import console

__all__ = ["SAME", "best", "groups", "main", "markdown", "print_table"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the curves of the files, and print tables; bad input is one line on stderr and 2."""
    parser = command.parser_of(__file__, __doc__)
    parser.add_argument("files", nargs="+", type=Path, help="files of JSON lines that run.py wrote")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results"),
        metavar="FOLDER",
        help="folder of the pictures; default %(default)s",
    )
    parser.add_argument("--markdown", action="store_true", help="print only tables, in Markdown")
    parser.add_argument(
        "--best", type=int, metavar="N", help="print only the N best solvers of each budget, in Markdown"
    )
    return command.execute(parser, _plot, arguments)


def _plot(options: argparse.Namespace) -> None:
    command.at_least(1, options, "best")
    records = latest(record for file in options.files for record in read_runs(file))
    if not records:
        raise ValueError(f"no lines of run.py in {', '.join(map(str, options.files))}")
    if options.markdown or options.best:
        print(best(records, options.best) if options.best else markdown(records))
        return
    command.check_writable(options.out / "picture.png")
    print_table(records)
    for path in draw_curves(records, options.out):
        print(path)


def markdown(records: Sequence[Record]) -> str:
    """The distances in Markdown: a row for each solver, a column for each budget, the best of it in bold."""
    parts = []
    for _, group in groups(records):
        first = group[0]
        budgets = sorted({record["nfe_requested"] for record in group})
        kept = list(filter(kept_budget, group))
        best = {
            n: min((record["fd"] for record in kept if record["nfe_requested"] == n), default=None)
            for n in budgets
        }
        several = len({record["spacing"] for record in group}) > 1
        rows: dict[str, dict[int, Record]] = {}
        for record in group:
            name = f"`{record['solver']}`" + (f", {record['spacing']}" if several else "")
            rows.setdefault(name, {})[record["nfe_requested"]] = record
        head = [f"{first['fd_features']} at", *(f"{n} calls" for n in budgets)]
        lines = [
            "| " + " | ".join(head) + " |",
            "|---" * (1 + len(budgets)) + "|",
        ]
        for name, found in sorted(rows.items(), key=lambda row: min(r["fd"] for r in row[1].values())):
            cells = [_cell(found.get(n), best[n]) for n in budgets]
            lines.append("| " + " | ".join([name, *cells]) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def best(records: Sequence[Record], count: int) -> str:
    """The best solvers at each budget, each on its best spacing, as tables in Markdown.

    By the distance to the data, and, for deterministic runs, by the error to the converged run. A run that
    made more calls than the budget does not count.
    """
    parts = []
    for _, group in groups(records):
        first = group[0]
        for figure, title in (
            ("fd", first["fd_features"]),
            ("rmse_to_converged", "RMSE to the converged run"),
        ):
            found = [r for r in group if r[figure] is not None and kept_budget(r)]
            found.sort(key=lambda r: float(r[figure]))
            budgets = sorted({record["nfe_requested"] for record in found})
            lines = [
                f"| {first['problem']}, calls | {title} |" + " |" * (count - 1),
                "|---" * (1 + count) + "|",
            ]
            for n in budgets:
                ranked: dict[str, str] = {}
                for r in (r for r in found if r["nfe_requested"] == n):
                    text = f"`{r['solver']}`, {r['spacing']}: {r[figure]:.3g}{_calls_made(r)}"
                    ranked.setdefault(r["solver"], text)
                lines.append(f"| {n} | " + " | ".join(list(ranked.values())[:count]) + " |")
            parts += ["\n".join(lines)] * bool(budgets)
    return "\n\n".join(parts)


def _cell(record: Record | None, best: float | None) -> str:
    if record is None:
        return ""
    text = f"{record['fd']:.3g}" if record["fd"] < 1000 else f"{record['fd']:,.0f}"
    text = f"**{text}**" if record["fd"] == best and kept_budget(record) else text
    return text + _calls_made(record)


def _calls_made(record: Record) -> str:
    """The calls of a run, if their number is not the budget."""
    return "" if record["nfe"] == record["nfe_requested"] else f" ({record['nfe']:g} calls)"


def print_table(records: Sequence[Record]) -> None:
    """A table for each group of comparable records."""
    out = console()
    for _, group in groups(records):
        out.print(_table(group))
        for line in _notes(group):
            out.print(line)


def _table(group: Sequence[Record]) -> Table:
    first = group[0]
    table = Table(title=f"{first['problem']}, SDE {first['sde']}, {first['dtype']}, {first['device_name']}")
    for column in ("solver", "spacing"):
        table.add_column(column, no_wrap=True)
    for column in ("NFE", first["fd_features"], "to converged", "RMSE", "s / 1k", "network", "MB"):
        table.add_column(column, justify="right")
    for record in group:
        rmse = record["rmse_to_converged"]
        table.add_row(
            record["solver"],
            record["spacing"],
            calls_of(record),
            f"{record['fd']:.4g}",
            f"{record['fd_reference']:.3g}",
            "-" if rmse is None else f"{rmse:.4f}",
            f"{record['seconds_per_1k_samples']:.3g}",
            f"{record['seconds_network'] / record['seconds']:.1%}",
            f"{record['peak_memory_mb']:.0f}",
        )
    table.caption = "FD to the data and to a converged run, RMSE to its ends; seconds for 1,000 samples"
    return table


def _notes(group: Sequence[Record]) -> list[str]:
    """Distances to compare those of a table with."""
    first = group[0]
    converged, name = first["fd_converged"], first["fd_features"]
    notes = [f"converged run, {first['converged_nfe']} calls: {name} {converged:.4g}"]
    held, count = first["fd_held_out"], first["held_out_count"]
    if held is None or count is None:
        return notes
    if count == first["n_samples"]:
        best = min(record["fd"] for record in group)
        note = f"best above {best / held:.2f} times that, converged {converged / held:.2f} times"
    else:
        note = f"of its {count:,} images, so not comparable with {first['n_samples']:,} samples"
    return [*notes, f"test set: {held:.4g}; {note}"]


if __name__ == "__main__":
    sys.exit(main())
