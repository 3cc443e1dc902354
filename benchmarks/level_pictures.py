"""A picture of default and measured levels: errors against network calls on each problem."""

from pathlib import Path
from typing import Any

from level_tables import OURS, PEERS, TITLES, Best, cells_of
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from pictures import save
from ticks import plain_ticks

STYLES: dict[str, dict[str, Any]] = {
    "peer": {"color": "0.45", "marker": "s"},
    "any": {"color": "0.7", "marker": "s", "linestyle": "--"},
    "default": {"color": "C0", "marker": "o"},
    "measured": {"color": "C3", "marker": "D"},
    "candidate": {"color": "C2", "marker": "^"},
}
LABELS = {
    "candidate": "best power of flow time\nwith hindsight",
    "peer": "best of the other projects\nwith hindsight",
    "any": "the same, also on grids\nof other processes",
}


def draw_levels(best: Best, file: Path) -> None:
    """A row for each figure, a column for each problem; one curve for each kind of levels."""
    problems = list(dict.fromkeys(cell[:2] for cell in cells_of(best)))
    figures = ("rmse", "median")
    figure, axes = plt.subplots(
        len(figures),
        len(problems),
        figsize=(2.0 + 2.4 * len(problems), 5.6),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for row, name in zip(axes, figures, strict=True):
        for one, problem in zip(row, problems, strict=True):
            _curves(one, best, problem, name)
            one.set_title(" ".join(problem) if name == figures[0] else "", fontsize=10)
        row[0].set_ylabel(f"{TITLES[name].partition(',')[0]},\nover the spread of the data", fontsize=9)
    for one in axes[-1]:
        one.set_xlabel("network calls a sample", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    save(figure, file)


def _curves(axes: Axes, best: Best, problem: tuple[str, str], figure: str) -> None:
    axes.set(xscale="log", yscale="log")
    budgets = sorted({cell.nfe for cell in cells_of(best) if cell[:2] == problem})
    for role in (*PEERS, *OURS):
        found = [
            (cell.nfe, r[figure])
            for (cell, who, f), r in best.items()
            if (cell[:2], who, f) == (problem, role, figure)
        ]
        if found:
            label = LABELS.get(role, f"{TITLES[role]} levels")
            axes.plot(
                *zip(*sorted(found), strict=True), label=label, markersize=4, linewidth=1.2, **STYLES[role]
            )
    plain_ticks(axes, budgets, apart=0.09)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
