"""The bars for posteriors, and the tables of methods beside the exact posterior."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lines import Record
from posterior_methods import EXACT
from posterior_truth import FIGURES
from rich.table import Table

Place = tuple[str, float]  # a problem and tau


class Bar(NamedTuple):
    """The largest allowed figures; W2 may be a multiple of the exact denoiser's."""

    w2: float
    weights: float
    over_exact: bool = False


BARS: dict[tuple[str, float, str], Bar] = {
    ("mix16", 0.05, "data covariance"): Bar(0.60, 0.18),
    ("mix16", 0.05, "Jacobian, 3"): Bar(0.57, 0.17),
    ("mix16", 0.5, "Jacobian, 3"): Bar(0.42, 0.19),
    ("mix16", 0.05, "SMC-64, data covariance"): Bar(0.42, 0.09),
    ("mix16", 0.5, "SMC-64, data covariance"): Bar(0.20, 0.06),
    ("pool64", 0.05, "data covariance"): Bar(1.15, 0.06, over_exact=True),
    ("pool64", 0.05, "Jacobian, 1"): Bar(1.15, 0.06, over_exact=True),
}
TITLES = {"w2": "sliced W2", "weights": "weights", "spread": "spread", "residual": "residual"}
CAPTION = (
    "sliced W2 over the posterior's deviation (+- its standard error over seeds); weights: total variation "
    "of the modes' weights; spread and residual: trace of the covariance, and mean |y - A x|^2, over the "
    "exact ones"
)


class Row(NamedTuple):
    """The means of a method's figures over seeds; None where one is not finite."""

    means: Mapping[str, float | None]
    error: float | None  # the standard error of W2
    cost: tuple[int, int]


def rows_of(records: Iterable[Record]) -> dict[Place, dict[str, Row]]:
    """The methods at each place, in the order of the records."""
    found: dict[Place, dict[str, list[Record]]] = {}
    for record in records:
        place = found.setdefault((record["problem"], record["tau"]), {})
        place.setdefault(record["method"], []).append(record)
    return {place: {name: _row(of) for name, of in methods.items()} for place, methods in found.items()}


def _row(records: Sequence[Record]) -> Row:
    means: dict[str, float | None] = {}
    for figure in FIGURES:
        values = [record[figure] for record in records]
        means[figure] = None if None in values else statistics.fmean(values)
    w2, error = [record["w2"] for record in records], None
    if len(w2) > 1 and None not in w2:
        error = statistics.stdev(w2) / math.sqrt(len(w2))
    return Row(means, error, (records[0]["calls"], records[0]["vjps"]))


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """A table for each problem and noise, and one of the bars."""
    found = rows_of(records)
    for (problem, tau), methods in found.items():
        about = f"{problem}, tau = {tau:g}, {_about(records, problem, tau)}"
        table = Table("method", title=about, caption=CAPTION)
        for name in ("calls", "vjps", *TITLES.values()):
            table.add_column(name, justify="right")
        for name, row in methods.items():
            shown = [number(row.means[figure]) for figure in FIGURES]
            if row.error is not None:
                shown[0] += f" +- {number(row.error)}"
            table.add_row(name, *map(str, row.cost), *shown)
        yield table
    yield verdicts(found)


def _about(records: Sequence[Record], problem: str, tau: float) -> str:
    mine = [r for r in records if (r["problem"], r["tau"]) == (problem, tau)]
    seeds = len({r["seed"] for r in mine})
    return f"{mine[0]['observations']} observations x {mine[0]['draws']} draws, {seeds} seeds (compared: 1)"


def verdicts(found: Mapping[Place, Mapping[str, Row]]) -> Table:
    """The figures that have bars, beside these."""
    table = Table("problem", "tau", "method", "sliced W2 (bar)", "weights (bar)", title="bars")
    for (problem, tau, method), bar in BARS.items():
        methods = found.get((problem, tau), {})
        if method not in methods or (bar.over_exact and EXACT not in methods):
            continue
        most = bar.w2
        if bar.over_exact:
            exact = methods[EXACT].means["w2"]
            assert exact is not None
            most *= exact
        w2, weights = (methods[method].means[figure] for figure in ("w2", "weights"))
        table.add_row(problem, f"{tau:g}", method, verdict(w2, most), verdict(weights, bar.weights))
    return table


def verdict(value: float | None, most: float, least: float = -math.inf) -> str:
    """A figure, its bar or its two bars, and whether it holds."""
    holds = value is not None and least <= value <= most
    bar = f"{most:.3g}" if least == -math.inf else f"{least:.3g}"
    if math.inf > most and least > -math.inf:
        bar += f" to {most:.3g}"
    return f"{number(value)} ({bar}) {'holds' if holds else 'FAILS'}"


def number(value: float | None) -> str:
    """Two decimals more than a reader needs, or the size of what has run away."""
    if value is None:
        return "not finite"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0e}"
