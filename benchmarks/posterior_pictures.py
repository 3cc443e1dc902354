"""A picture of all methods on all problems: a row for each method, a column for each problem and noise."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from pictures import save
from posterior_methods import EXACT, FLOOR
from posterior_tables import BARS, Place, Row

SHOWN = {"w2": "sliced W2 over the posterior's deviation", "weights": "error of the weights of the modes"}
LEAST, MOST = {"w2": 0.05, "weights": 5e-3}, {"w2": 2.0, "weights": 1.0}  # others are at the edge


def draw_posteriors(found: Mapping[Place, Mapping[str, Row]], file: Path) -> None:
    """One panel for each figure and place, on a log axis; crosses are bars, and the line is the floor."""
    names = list(dict.fromkeys(name for methods in found.values() for name in methods))
    costs = {name: row.cost for methods in found.values() for name, row in methods.items()}
    figure, axes = plt.subplots(
        len(SHOWN),
        len(found),
        sharey=True,
        squeeze=False,
        figsize=(3.2 + 1.7 * len(found), 1.6 + 0.36 * len(names)),
        layout="constrained",
    )
    for row, (what, title) in zip(axes, SHOWN.items(), strict=True):
        for one, (place, methods) in zip(row, found.items(), strict=True):
            _panel(one, what, place, methods, names)
            one.set_title(f"{place[0]}, {place[1]:g}" if what == next(iter(SHOWN)) else "", fontsize=10)
        labels = [f"{name}   {costs[name][0]}, {costs[name][1]}" for name in names]
        row[0].set_yticks(range(len(names)), labels)
        row[0].set_ylim(len(names) - 0.4, -0.6)
        row[len(row) // 2].set_xlabel(title, fontsize=9)
    figure.suptitle("beside each method: network calls, and products with its derivative", fontsize=9)
    save(figure, file)


def _panel(axes: Axes, what: str, place: Place, methods: Mapping[str, Row], names: list[str]) -> None:
    low, high = LEAST[what], MOST[what]
    axes.set(xscale="log", xlim=(low, high))
    if FLOOR in methods and (floor := methods[FLOOR].means[what]):
        axes.axvline(floor, color="0.6", linewidth=1, linestyle="--")
    for i, name in enumerate(names):
        if name not in methods:
            continue
        value = methods[name].means[what]
        beyond = value is None or value > high
        at = high / 1.12 if beyond else max(value or 0, low * 1.06)
        colour = "0.4" if name in (FLOOR, EXACT) else "C1" if name.startswith("azula") else "C0"
        axes.plot(at, i, marker=">" if beyond else "o", markersize=5, color=colour, linestyle="")
        bar = BARS.get((*place, name))
        if bar is not None and not (bar.over_exact and what == "w2"):
            axes.plot(getattr(bar, what), i, marker="x", color="C3", markersize=6)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
