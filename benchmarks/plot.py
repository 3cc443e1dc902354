"""Curves, samples and tables of run.py's JSON lines: ``python benchmarks/plot.py results/*.jsonl``."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from scoresde.data.pictures import save_grid

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Record = dict[str, Any]

# Figures are comparable only where all of these agree.
SAME = ("problem", "fd_features", "sde", "dtype", "seed", "checkpoint", "converged_nfe")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what the given files hold."""
    parser = argparse.ArgumentParser("plot.py", description=(__doc__ or "").split(":")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--markdown", action="store_true", help="print the tables as the README shows them")
    parser.add_argument("--best", type=int, metavar="N", help="print the N best at each budget, instead")
    options = parser.parse_args(arguments)
    try:
        records = [json.loads(line) for file in options.files for line in file.read_text().splitlines()]
    except (OSError, json.JSONDecodeError) as error:
        print(f"plot.py: {error}", file=sys.stderr)
        return 2
    if options.markdown or options.best:
        print(best(records, options.best) if options.best else markdown(records))
        return 0
    print_table(records)
    for path in draw_curves(records, options.out):
        print(path)
    return 0


def markdown(records: Sequence[Record]) -> str:
    """The distances as tables in Markdown, a row a solver, a column a budget, the best of each in bold."""
    parts = []
    for _, group in groups(records):
        first = group[0]
        budgets = sorted({record["nfe_requested"] for record in group})
        best = {n: min(record["fd"] for record in group if record["nfe_requested"] == n) for n in budgets}
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
    """The best few at each budget, each on its better spacing, as tables in Markdown: by distance to the data
    and, of what draws no noise, by error to the converged run."""
    parts = []
    for _, group in groups(records):
        first = group[0]
        for figure, title in (
            ("fd", first["fd_features"]),
            ("rmse_to_converged", "RMSE to the converged run"),
        ):
            found = sorted((r for r in group if r[figure] is not None), key=lambda r: r[figure])
            budgets = sorted({record["nfe_requested"] for record in found})
            lines = [
                f"| {first['problem']}, calls | {title} |" + " |" * (count - 1),
                "|---" * (1 + count) + "|",
            ]
            for n in budgets:
                ranked: dict[str, str] = {}
                for r in found:
                    if r["nfe_requested"] == n:
                        ranked.setdefault(r["solver"], f"`{r['solver']}`, {r['spacing']}: {r[figure]:.3g}")
                lines.append(f"| {n} | " + " | ".join(list(ranked.values())[:count]) + " |")
            parts += ["\n".join(lines)] * bool(budgets)
    return "\n\n".join(parts)


def _cell(record: Record | None, best: float) -> str:
    if record is None:
        return ""
    text = f"{record['fd']:.3g}" if record["fd"] < 1000 else f"{record['fd']:,.0f}"
    text = f"**{text}**" if record["fd"] == best else text
    return text + ("" if record["nfe"] == record["nfe_requested"] else f" ({record['nfe']:g} calls)")


def groups(records: Iterable[Record]) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Records that may stand in one table."""

    def key(record: Record) -> tuple[Any, ...]:
        return tuple(record[name] for name in SAME)

    return [(k, list(group)) for k, group in groupby(sorted(records, key=lambda r: repr(key(r))), key)]


def print_table(records: Sequence[Record]) -> None:
    """A table for each group of comparable records."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for _, group in groups(records):
        first = group[0]
        name = first["fd_features"]
        table = Table(
            title=f"{first['problem']}, SDE {first['sde']}, {first['dtype']}, {first['device_name']}"
        )
        for column in ("solver", "spacing"):
            table.add_column(column, no_wrap=True)
        for column in ("NFE", escape(name), "to converged", "RMSE", "s / 1k", "network", "MB"):
            table.add_column(column, justify="right")
        for record in group:
            rmse = record["rmse_to_converged"]
            table.add_row(
                escape(record["solver"]),
                escape(record["spacing"]),
                f"{record['nfe']:g}"
                + ("" if record["nfe"] == record["nfe_requested"] else f" of {record['nfe_requested']}"),
                f"{record['fd']:.4g}",
                f"{record['fd_reference']:.3g}",
                "-" if rmse is None else f"{rmse:.4f}",
                f"{record['seconds_per_1k_samples']:.3g}",
                f"{record['seconds_network'] / record['seconds']:.1%}",
                f"{record['peak_memory_mb']:.0f}",
            )
        table.caption = "FD to the data and to a converged run, RMSE to its ends; seconds for 1,000 samples"
        console.print(table)
        converged, name = first["fd_converged"], escape(name)
        console.print(f"converged run, {first['converged_nfe']} calls: {name} {converged:.4g}")
        if first["fd_held_out"] is not None:
            held, count = first["fd_held_out"], first["held_out_count"]
            if count == first["n_samples"]:
                best = min(record["fd"] for record in group)
                note = f"best above {best / held:.2f} times that, converged {converged / held:.2f} times"
            else:
                note = (
                    f"of its {count:,} images, and so not to be compared with {first['n_samples']:,} samples"
                )
            console.print(f"test set: {held:.4g}; {note}")


def draw_curves(records: Sequence[Record], folder: Path) -> list[Path]:
    """FD against network calls and against seconds, and the error of what draws no noise against network
    calls, a line a solver; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for key, group in groups(records):
        mark = (
            "-".join(str(part) for part in key[:3] if part)
            .replace("[", "-")
            .replace("]", "")
            .replace("@", "-")
        )
        devices = ", ".join(dict.fromkeys(record["device_name"] for record in group))
        axes: list[tuple[str, str, Callable[[Record], float]]] = [
            ("nfe", "network calls a sample", lambda record: record["nfe"]),
            (
                "seconds",
                f"seconds for 1,000 samples, {devices}",
                lambda record: record["seconds_per_1k_samples"],
            ),
        ]
        for name, label, x in axes:
            files.append(folder / f"fd-{name}-{mark}.png")
            _draw(files[-1], group, x, label)
        if any(record["rmse_to_converged"] for record in group):
            files.append(folder / f"error-nfe-{mark}.png")
            _draw_error(files[-1], [record for record in group if record["rmse_to_converged"]])
    return files


def _lines(
    records: Sequence[Record], x: Callable[[Record], float], y: Callable[[Record], float]
) -> tuple[Figure, Axes]:
    """A line a solver, log axes; of a crowd, those that are best at some budget stand out."""
    several = len({record["spacing"] for record in records}) > 1
    lines: dict[str, list[tuple[float, float]]] = {}
    best: dict[float, tuple[float, str]] = {}
    for record in records:
        name = f"{record['solver']} ({record['spacing']})" if several else record["solver"]
        lines.setdefault(name, []).append((x(record), y(record)))
        budget = record["nfe_requested"]
        best[budget] = min(best.get(budget, (math.inf, "")), (y(record), name))
    crowd = len(lines) > 12
    named = list(dict.fromkeys(name for _, name in best.values())) if crowd else list(lines)
    figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for points in (lines[name] for name in lines if name not in named):
        axis.plot(*zip(*sorted(points), strict=True), color="0.88", linewidth=0.8, zorder=1)
    for i, name in enumerate(named):
        across, up = zip(*sorted(lines[name]), strict=True)
        axis.plot(across, up, label=name, marker="osD^vP*X<>hp"[i % 12], markersize=5, color=f"C{i % 10}")
    axis.set(xscale="log", yscale="log")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, title=f"best at a budget, of {len(lines)}" if crowd else None, title_fontsize=8)
    first = records[0]
    axis.set_title(f"{first['problem']}, SDE {first['sde']}, {first['n_samples']:,} samples", fontsize=10)
    return figure, axis


def _mark_budgets(axis: Axes, records: Sequence[Record]) -> None:
    asked = sorted({record["nfe_requested"] for record in records})
    axis.set_xticks(asked, [f"{tick:g}" for tick in asked])
    axis.minorticks_off()


def _draw_error(path: Path, records: Sequence[Record]) -> None:
    figure, axis = _lines(records, lambda record: record["nfe"], lambda record: record["rmse_to_converged"])
    axis.set(xlabel="network calls a sample", ylabel="RMSE to the converged run from the same noise")
    _mark_budgets(axis, records)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw(path: Path, records: Sequence[Record], x: Callable[[Record], float], label: str) -> None:
    figure, axis = _lines(records, x, lambda record: record["fd"])
    finest = min(record["fd"] for record in records)
    axis.set_ylim(top=min(axis.get_ylim()[1], finest * 3e3), auto=None)  # beyond is no sample at all
    first = records[0]
    axis.axhline(first["fd_converged"], color="0.4", linestyle="--", linewidth=1)
    axis.annotate(
        "converged",
        (1, first["fd_converged"]),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        color="0.4",
        fontsize=8,
    )
    if first["fd_held_out"] is not None and first["held_out_count"] == first["n_samples"]:
        axis.axhline(first["fd_held_out"], color="0.4", linestyle=":", linewidth=1)
        axis.annotate(
            "test images",
            (1, first["fd_held_out"]),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="0.4",
            fontsize=8,
        )
    axis.set(xlabel=label, ylabel=first["fd_features"])
    if label.startswith("network"):
        _mark_budgets(axis, records)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_samples(x: Tensor, path: Path, title: str) -> None:
    """Images as a grid, vectors as points in their first two dimensions."""
    if x.ndim == 4:
        save_grid(path, x)
        return
    figure, axis = plt.subplots(figsize=(4, 4), layout="constrained")
    axis.scatter(x[:, 0], x[:, 1], s=6)
    axis.set_title(title, fontsize=9)
    axis.set_aspect("equal")
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
