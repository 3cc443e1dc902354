"""The bars for default and measured levels, ratios to the best peer, and their tables."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from lines import Record
from peer_runs import on_own_grid
from rich.table import Table

# By who runs, figure and calls: the largest ratio to the best peer, geometric mean over the problems.
BARS: dict[tuple[str, str], dict[int, float]] = {
    ("measured", "rmse"): {5: 0.65, 10: 0.45, 20: 0.35, 50: 0.04},
    ("measured", "median"): {5: 0.85, 10: 0.6, 20: 0.4, 50: 0.08},
    ("default", "rmse"): {5: 0.95, 10: 0.8, 20: 0.55, 50: 0.12},
}
OURS = ("default", "measured", "candidate")
PEERS = ("peer", "any")
TITLES = {
    "default": "default",
    "measured": "measured",
    "candidate": "hindsight",
    "peer": "best peer",
    "any": "on any grid",
    "rmse": "RMSE to the exact end, over the spread of the data",
    "median": "median error of a sample, over the spread of the data",
    "share": "share of samples off by more than half the spread",
}
NONE = "-"


class Cell(NamedTuple):
    """A place in the tables."""

    problem: str
    process: str
    nfe: int


Best = dict[tuple[Cell, str, str], Record]  # by place, role and figure


def best_of(records: Iterable[Record]) -> Best:
    """The record with the smallest figure, for each place, role and figure; only runs within their budget.

    The best peer is that on the grids of the process; beside it, that on any grid.
    """
    best: Best = {}
    for record in records:
        cell = Cell(record["problem"], record["process"], record["nfe_requested"])
        if not 0 < record["nfe"] <= cell.nfe:
            continue
        roles = [record["role"]]
        if roles == ["peer"]:
            roles = ["peer", "any"] if on_own_grid(cell.process, record["spacing"]) else ["any"]
        for at in product([cell], roles, ("rmse", "median", "share")):
            if at not in best or record[at[2]] < best[at][at[2]]:
                best[at] = record
    return best


def cells_of(best: Best) -> list[Cell]:
    """The places in their order."""
    return list(dict.fromkeys(cell for cell, _, _ in best))


def ratio(best: Best, cell: Cell, role: str, figure: str, peer: str = "peer") -> float | None:
    """A figure over that of the best peer; None without one of them."""
    ours, theirs = (best.get((cell, who, figure)) for who in (role, peer))
    return None if ours is None or theirs is None else ours[figure] / theirs[figure]


def mean_ratio(
    best: Best, role: str, figure: str, nfe: int, peer: str = "peer", flows: bool = True
) -> float | None:
    """The geometric mean of the ratios over the problems, with or without those of flows."""
    cells = [c for c in cells_of(best) if c.nfe == nfe and (flows or c.process != "rectified-flow")]
    found = [ratio(best, cell, role, figure, peer) for cell in cells]
    known = [value for value in found if value]
    return math.exp(sum(map(math.log, known)) / len(known)) if known and len(known) == len(found) else None


def tables(best: Best) -> Iterator[Table]:
    """A table for each figure, the best peers, and the means beside their bars."""
    for figure in ("rmse", "median", "share"):
        yield _figure_table(best, figure)
    yield _peer_table(best)
    yield summary(best)


def _figure_table(best: Best, figure: str) -> Table:
    """A figure of each kind of levels, with its ratio to the best peer in brackets."""
    table = Table("problem", "calls", title=TITLES[figure])
    for role in (*OURS, *PEERS):
        table.add_column(TITLES[role], justify="right")
    for cell, last in _with_last(cells_of(best)):
        shown = [_shown(best, cell, role, figure) for role in (*OURS, *PEERS)]
        table.add_row(f"{cell.problem} {cell.process}", str(cell.nfe), *shown, end_section=last)
    return table


def _shown(best: Best, cell: Cell, role: str, figure: str) -> str:
    record = best.get((cell, role, figure))
    if record is None:
        return NONE
    if figure == "share":
        return f"{record[figure]:.2%}"
    over = None if role in PEERS else ratio(best, cell, role, figure)
    return f"{record[figure]:.3g}" + ("" if over is None else f" ({over:.2f})")


def _peer_table(best: Best) -> Table:
    table = Table(
        "problem", "calls", "figure", "best peer", "on any grid", title="the peers", show_lines=True
    )
    for cell, figure in product(cells_of(best), ("rmse", "median")):
        found = [best.get((cell, peer, figure)) for peer in PEERS]
        named = [NONE if record is None else f"{record['method']} on {record['spacing']}" for record in found]
        table.add_row(f"{cell.problem} {cell.process}", str(cell.nfe), figure, *named)
    return table


def _with_last(cells: Sequence[Cell]) -> Iterator[tuple[Cell, bool]]:
    """Each place, and whether it is the last of its problem."""
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        yield cell, after is None or after[:2] != cell[:2]


def summary(best: Best) -> Table:
    """Geometric means of the ratios beside their bars."""
    budgets = sorted({cell.nfe for cell in cells_of(best)})
    table = Table(
        "levels", "figure", "over", "problems", title="ratio to the best peer, geometric mean (bar)"
    )
    for nfe in budgets:
        table.add_column(f"{nfe} calls", justify="right")
    several = len({cell.process == "rectified-flow" for cell in cells_of(best)}) == 2
    for role, figure, peer in product(OURS, ("rmse", "median"), PEERS):
        bars = BARS.get((role, figure), {})
        for flows in (True, False) if several else (True,):
            values = [mean_ratio(best, role, figure, nfe, peer, flows) for nfe in budgets]
            shown = [verdict(v, bars if flows else {}, n) for v, n in zip(values, budgets, strict=True)]
            problems = "all" if flows else "without flows"
            table.add_row(TITLES[role], figure, TITLES[peer], problems, *shown, end_section=peer == "any")
    return table


def verdict(value: float | None, bars: Mapping[int, float], nfe: int) -> str:
    """A ratio, and its bar if there is one."""
    if value is None:
        return NONE
    if nfe not in bars:
        return f"{value:.3f}"
    return f"{value:.3f} ({bars[nfe]:g}) {'holds' if value <= bars[nfe] else 'FAILS'}"
