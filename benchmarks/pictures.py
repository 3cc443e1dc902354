"""Pictures of runs: curves over network calls or seconds, rankings at one budget, and samples."""

import hashlib
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from lines import SAME, Record, curves, groups, kept_budget, latest, read_runs
from torch import Tensor

from scoresde.data.pictures import save_grid
from scoresde.files import write_atomically

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ticks import plain_ticks

RESULTS = Path(__file__).parent / "results"
FAR = 1e3  # times the median of a ranking: dots beyond this are at the edge
LONG = 80  # rows of a ranking: more are too many to read
CROWD = 12  # curves: more have no distinct colours and marks
WORST = 3e3  # times the least distance: a sample beyond this is useless

TITLES = {
    "nfe": "network calls a sample",
    "seconds_per_1k_samples": "seconds for 1,000 samples",
    "rmse_to_converged": "RMSE to the converged run from the same noise",
}


class Axis(NamedTuple):
    """A kind of picture: the stem of its file's name, and the fields of a record on x and on y."""

    stem: str
    x: str
    y: str


AXES = (
    Axis("fd-nfe", "nfe", "fd"),
    Axis("fd-seconds", "seconds_per_1k_samples", "fd"),
    Axis("error-nfe", "nfe", "rmse_to_converged"),
)


def published() -> list[Record]:
    """The runs in the project's own results."""
    return [record for file in sorted(RESULTS.glob("*.jsonl")) for record in read_runs(file, lambda _: None)]


def draw_curves(records: Sequence[Record], folder: Path, behind: Sequence[Record] = ()) -> list[Path]:
    """Draw the curves of each group of comparable runs, and return the files.

    Draws the distance to the data against network calls and against seconds, and, for deterministic runs, the
    error to the converged run against network calls.

    Args:
        records: of the runs.
        folder: of the files.
        behind: other runs; those of the same kind are drawn in grey.
    """
    files = []
    for mark, group in _marked(latest(records)).items():
        for axis in AXES:
            shown = [record for record in group if record[axis.y] is not None]
            if any(record[axis.y] > 0 for record in shown):
                files.append(folder / f"{axis.stem}-{mark}.png")
                save(picture_of(axis, shown, of_kind(axis, shown, behind)), files[-1])
    return files


def _marked(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The groups by their part of a file's name; a later group with the same part adds what differs."""
    order = [id(record) for record in records]
    found: dict[str, tuple[tuple[Any, ...], list[Record]]] = {}
    for key, group in sorted(groups(records), key=lambda item: order.index(id(item[1][0]))):
        mark = "-".join(str(part) for part in key[:3] if part)
        mark = plain_name(mark.replace("]", "").replace("[", "-").replace("@", "-"))
        if mark in found:
            both = zip(SAME, found[mark][0], key, strict=True)
            mark = plain_name(
                "-".join([mark, *(f"{name}={own}" for name, other, own in both if own != other)])
            )
        found[mark] = key, group
    return {mark: group for mark, (_, group) in found.items()}


def of_kind(axis: Axis, records: Sequence[Record], behind: Sequence[Record]) -> list[Record]:
    """The other runs that the same picture may show.

    A distance depends on the number of samples; an error does not, so its numbers of samples may differ.
    Seconds are recomputed for the pace of these runs.
    """
    names = ["problem", "sde", "to_clean", "checkpoint"] + ["fd_features"] * (axis.y == "fd")
    first = records[0]
    found = [
        record for record in behind if record[axis.y] and all(record[name] == first[name] for name in names)
    ]
    if axis.x == "nfe":
        return found
    pace = statistics.median(record[axis.x] / record["nfe"] for record in records)
    return [record | {axis.x: record["nfe"] * pace} for record in found]


def picture_of(axis: Axis, records: Sequence[Record], grey: Sequence[Record]) -> Figure:
    """Curves; or a ranking, if all runs have one budget, without grey runs or with a crowd of own ones."""
    one_budget = len({record["nfe_requested"] for record in records}) == 1
    if one_budget and (not grey or len(curves(records)) > CROWD):
        return ranking(axis, records)
    return curves_of(axis, records, grey)


def curves_of(axis: Axis, records: Sequence[Record], grey: Sequence[Record] = ()) -> Figure:
    """One curve for each solver, on log axes; of a crowd, the best at each budget have colours and names."""
    lines, first = curves(records), records[0]
    crowd = len(lines) > CROWD
    named = _best(axis, lines) if crowd else list(lines)
    figure, axes = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    behind = {name: lines[name] for name in lines if name not in named} | curves([] if crowd else grey)
    for group in behind.values():
        _plot(axes, axis, group, color="0.85", linewidth=0.8, marker="o", markersize=1.5, zorder=1)
    for i, name in enumerate(named):
        style = {"marker": "osD^vP*X<>hp"[i % 12], "color": f"C{i % 10}"}
        value = _short(lines[name][0][axis.y])
        label = f"{name}, {value}" if len(lines[name]) == 1 else name
        _plot(axes, axis, lines[name], label=label, markersize=5 if len(lines) > 1 else 8, zorder=3, **style)
    axes.set(xscale="log", yscale="log", xlabel=_title(axis.x, records), ylabel=_title(axis.y, records))
    axes.set_title(_head(first), fontsize=10)
    if axis.y == "fd":
        _references(first, axes.axhline)
    _limit(axes, axis, records, [] if crowd else grey)
    budgets = sorted({record["nfe_requested"] for record in records}) if axis.x == "nfe" else []
    plain_ticks(axes, budgets)
    axes.grid(alpha=0.3)
    _legend(figure, axes, axis, len(lines) if crowd else 0, [] if crowd else grey)
    return figure


def _plot(axes: Axes, axis: Axis, group: Sequence[Record], **style: Any) -> None:
    points = sorted((record[axis.x], record[axis.y]) for record in group)
    axes.plot(*zip(*points, strict=True), **style)


def _best(axis: Axis, lines: Mapping[str, Sequence[Record]]) -> list[str]:
    """The names of the curves that are best at a budget, among the runs that keep it."""
    best: dict[float, tuple[float, str]] = {}
    for name, group in lines.items():
        for record in filter(kept_budget, group):
            budget = record["nfe_requested"]
            best[budget] = min(best.get(budget, (math.inf, "")), (record[axis.y], name))
    return list(dict.fromkeys(name for _, (_, name) in sorted(best.items())))


def _references(first: Record, line: Callable[..., object]) -> None:
    """Lines at the distances of the converged run and, if their number is the same, of the test images."""
    for name, value in _compared(first).items():
        dashes, label = {"converged run": "--"}.get(name, ":"), f"{name}, {value:.3g}"
        line(value, linestyle=dashes, label=label, color="0.4", linewidth=1, zorder=2)


def _compared(first: Record) -> dict[str, float]:
    """Distances to compare with: the converged run; and the test images, if their number is the same."""
    found = {"converged run": first["fd_converged"]}
    if first["fd_held_out"] is not None and first["held_out_count"] == first["n_samples"]:
        found["test images"] = first["fd_held_out"]
    return found


def _limit(axes: Axes, axis: Axis, records: Sequence[Record], grey: Sequence[Record]) -> None:
    """Limit y to the runs near the best; the runs behind them may lie outside."""
    values = [record[axis.y] for record in records if record[axis.y]]
    near = min([*values, *(record[axis.y] for record in grey)])
    most = min(
        near * WORST, max([*values, *sorted(record[axis.y] for record in grey)[: 9 * len(grey) // 10]])
    )
    references = [value for value in _compared(records[0]).values() if value] * (axis.y == "fd")
    low, high = min([near, *references]), max([most, *references])
    axes.set_ylim(low / max((high / low) ** 0.05, 1.02), high * max((high / low) ** 0.05, 1.02))


def _legend(figure: Figure, axes: Axes, axis: Axis, crowd: int, grey: Sequence[Record]) -> None:
    if grey:
        there = "published runs" if axis.x == "nfe" else "published runs, at this\nrun's seconds a call"
        sizes = " or ".join(f"{size:,}" for size in sorted({record["n_samples"] for record in grey}))
        label = f"{there} ({len(curves(grey))}),\n{sizes} samples"
        axes.plot([], [], color="0.75", linewidth=1.5, label=label)
    title = f"best at a budget, of {crowd}" if crowd else None
    figure.legend(loc="outside right upper", fontsize=8, title=title, title_fontsize=8, frameon=False)


def ranking(axis: Axis, records: Sequence[Record]) -> Figure:
    """Runs of one budget, the best first: their figure on y, and beside it their cost."""
    rows = sorted(curves(records).items(), key=lambda row: float(row[1][-1][axis.y]))
    several = len(rows) > LONG
    if several:  # only the best spacing of each solver
        rows = list({group[-1]["solver"]: (name, group) for name, group in reversed(rows)}.values())[::-1]
    runs = [group[-1] for _, group in rows]
    figure, (left, right) = plt.subplots(
        1, 2, sharey=True, width_ratios=(2, 1), figsize=(8.6, 1.6 + 0.19 * len(rows)), layout="constrained"
    )
    _dots(left, runs, axis.y, list(_compared(runs[0]).values()) * (axis.y == "fd"))
    _dots(right, runs, axis.x, numbered=True)
    left.set_yticks(range(len(rows)), [f"{name}   {_short(group[-1][axis.y])}" for name, group in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    for i, run in enumerate(runs):
        at = (run[axis.x], i)
        right.annotate(_short(run[axis.x]), at, (6, 0), textcoords="offset points", va="center", fontsize=8)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    left.set_xlabel(_title(axis.y, records))
    right.set_xlabel(_title(axis.x, records))
    title = f"{_head(runs[0])}, {runs[0]['nfe_requested']} network calls asked for"
    title += ", each solver on its best levels" * several
    figure.suptitle(title + "\n(red: more were made)" * (not all(map(kept_budget, runs))), fontsize=10)
    if axis.y == "fd":
        _references(runs[0], left.axvline)
        figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=2)
    return figure


def _dots(
    axes: Axes, runs: Sequence[Record], name: str, others: Iterable[float] = (), numbered: bool = False
) -> None:
    """One dot for each run and row, with space for a number beside it if ``numbered``."""
    seen = [value for value in (*(run[name] for run in runs), *others) if value > 0]
    low, high = min(seen), min(max(seen), statistics.median(seen) * FAR)
    room = max((high / low) ** 0.08, 2 / (high / low) ** 0.5, 1.05)
    beside = 1.2 * max(room, (high / low) ** 0.3) if numbered else room
    axes.set(xscale="log", xlim=(low / room, high * beside))
    plain_ticks(axes, [runs[0]["nfe_requested"]] if name == "nfe" else (), up=False, apart=0.1)
    for i, run in enumerate(runs):
        beyond = run[name] > high
        style: dict[str, Any] = {"color": "C0"}
        if not kept_budget(run):
            style = {"color": "C3", "markerfacecolor": "white"}
        at = min(max(run[name], low / room), high * room**0.7)
        axes.plot(at, i, marker=">" if beyond else "o", markersize=5, linestyle="", **style)


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"


def _head(first: Record) -> str:
    return f"{first['problem']}, SDE {first['sde']}, {first['n_samples']:,} samples"


def _title(name: str, records: Sequence[Record]) -> str:
    if name == "fd":
        return str(records[0]["fd_features"])
    devices = ", ".join(dict.fromkeys(record["device_name"] for record in records))
    return TITLES[name] + (f",\n{devices}" if name == "seconds_per_1k_samples" else "")


def draw_samples(x: Tensor, path: Path, title: str) -> None:
    """Draw images as a grid, and vectors as points in their first two dimensions."""
    if x.ndim == 4 and x.shape[1] in (1, 3):
        save_grid(path, x)
        return
    points = x.flatten(1)
    figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
    axes.scatter(points[:, 0], points[:, min(1, points.shape[1] - 1)], s=6)
    axes.set_title(title, fontsize=9)
    axes.set_aspect("equal", "datalim")
    save(figure, path)


def plain_name(text: str, most: int = 150) -> str:
    """Text as part of a file's name; a long text is cut, and a digest keeps it unique."""
    name = "".join(c if (c.isascii() and c.isalnum()) or c in "-.=" else "-" for c in text)
    if len(name) <= most:
        return name
    return f"{name[: most - 9]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def save(figure: Figure, path: Path) -> None:
    """Write a picture as a whole; after an error the old file stays."""
    content = io.BytesIO()
    figure.savefig(content, dpi=130)
    plt.close(figure)
    write_atomically(path, content.getvalue())
