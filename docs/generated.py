"""Tables of the pages, made at build from the records of the benchmarks and from the library itself."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from inspect import getdoc
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import comparison
import mistakes

from scoresde import EDM, SOLVERS, VPSDE, Plan
from scoresde.plans.tape import Solver
from scoresde.solvers import DPMSolver
from scoresde.solvers.integrators.base import Integrator
from scoresde.spacings import SPACINGS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from level_tables import TITLES, best_of, cells_of, mean_ratio  # noqa: E402
from lines import Record, kept_budget, latest, read_lines, read_runs  # noqa: E402

PROBLEMS = ("mnist-1k", "gmm64", "gmm2")
PLACES = 3  # solvers in a table of the best
WITH_NOISE = 500  # samples of the runs with noise on mnist


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def smallest_error() -> str:
    """The smallest RMSE of each budget, a column a problem."""
    ranked = {name: _ranked(_records(name), "rmse_to_converged") for name in PROBLEMS}
    budgets = [n for n in ranked["mnist-1k"] if all(n in found for found in ranked.values())]
    head = ["calls", *(f"`{name.removesuffix('-1k')}`" for name in PROBLEMS)]
    return table(head, ([str(n), *(ranked[name][n][0] for name in PROBLEMS)] for n in budgets))


def best(name: str, figure: str, n_samples: int | None = None) -> str:
    """The best few solvers of each budget, each on its better spacing."""
    records = [r for r in _records(name) if n_samples is None or r["n_samples"] == n_samples]
    rows = ([str(n), *places[:PLACES]] for n, places in _ranked(records, figure).items())
    return table(["calls", "best", "second", "third"], rows)


def _records(name: str) -> list[Record]:
    path = ROOT / "benchmarks" / "results" / f"{name}.jsonl"
    return [record for record in latest(read_runs(path)) if kept_budget(record)]


def _ranked(records: Sequence[Record], figure: str) -> dict[int, list[str]]:
    """For each budget the solvers from the best on, each once, as cells."""
    found = sorted((r for r in records if r[figure] is not None), key=lambda r: float(r[figure]))
    places: dict[int, dict[str, str]] = {}
    for r in found:
        cell = f"`{r['solver']}` on {r['spacing']}, {r[figure]:.2g}"
        if r[figure] >= 0.01:
            cell = f"`{r['solver']}` on {r['spacing']}, {r[figure]:.3g}"
        places.setdefault(r["nfe_requested"], {}).setdefault(r["solver"], cell)
    return {n: list(places[n].values()) for n in sorted(places)}


def levels() -> str:
    """Errors over those of the best sampler of other projects, a geometric mean over the mixtures."""
    records = _level_records("mixtures")
    best = best_of(records)
    budgets = sorted({cell.nfe for cell in cells_of(best)})
    rows = []
    for role, figure in product(("measured", "default"), ("rmse", "median")):
        ratios = [mean_ratio(best, role, figure, nfe) for nfe in budgets]
        name = f"{TITLES[role]} levels, {'RMSE' if figure == 'rmse' else figure}"
        rows.append([name, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    return table(["", *(f"{nfe} calls" for nfe in budgets)], rows)


def included_levels() -> str:
    """RMSE of the included network on several levels, each with the median error in brackets."""
    found: dict[str, dict[int, str]] = {}
    for r in _level_records("shipped"):
        if "nfe_requested" in r:
            found.setdefault(r["role"], {})[r["nfe_requested"]] = f"{r['rmse']:.3g} ({r['median']:.2g})"
    budgets = sorted({nfe for cells in found.values() for nfe in cells})
    rows = ([NAMES.get(name, name), *(cells[nfe] for nfe in budgets)] for name, cells in found.items())
    return table(["", *(f"{nfe} calls" for nfe in budgets)], rows)


NAMES = {"default": "`auto`, default levels", "measured": "`auto`, measured levels"}


def _level_records(part: str) -> list[Record]:
    path = ROOT / "benchmarks" / "results" / "levels.jsonl"
    return [record for _, record in read_lines(path) if record["part"] == part]


def posteriors(problem: str = "mix16", most: float = 10.0) -> str:
    """Distances from the exact posterior on a mixture, means over the seeds; a run that explodes says so."""
    path = ROOT / "benchmarks" / "results" / "posterior.jsonl"
    found: dict[str, dict[float, list[Record]]] = {}
    for _, r in read_lines(path):
        if r.get("problem") == problem:
            found.setdefault(r["method"], {}).setdefault(r["tau"], []).append(r)
    taus = sorted({tau for runs in found.values() for tau in runs})
    rows = []
    for method, runs in found.items():
        cells = []
        for tau in taus:
            w2, weights = (fmean(r[figure] for r in runs[tau]) for figure in ("w2", "weights"))
            cells.append(f"{w2:.2f} / {weights:.2f}" if w2 < most else "explodes")
        first = runs[taus[0]][0]
        rows.append([method.replace("|", "\\|"), f"{first['calls']}, {first['vjps']}", *cells])
    return table(["method", "calls, products", *(f"tau = {tau:g}" for tau in taus)], rows)


def solvers(noise: bool) -> str:
    """Every solver of the registry that is a table, with or without noise."""
    rows = []
    tables: dict[str, Solver] = {n: s for n, s in SOLVERS.items() if not isinstance(s, Integrator)}
    for name, solver in tables.items():
        few, many = (Plan.make(solver, VPSDE(), steps) for steps in (10, 20))
        if few.stochastic is noise:
            calls = f"{(many.nfe - few.nfe) / 10:.2g}"
            rows.append([f"`{name}`", str(solver.order), calls, made(solver)])
    return table(["solver", "weak order" if noise else "order", "calls", "in Python"], rows)


def integrators() -> str:
    """Every solver of the registry with its own loop."""
    found = ((name, solver) for name, solver in SOLVERS.items() if isinstance(solver, Integrator))
    rows = ([f"`{name}`", made(solver), _first_sentence(solver)] for name, solver in found)
    return table(["solver", "in Python", ""], rows)


def spacings() -> str:
    """Every spacing of the registry."""
    rows = ([f"`{name}`", _link(maker), _first_sentence(maker)] for name, maker in SPACINGS.items())
    return table(["spacing", "in Python", ""], rows)


def made(item: Any) -> str:
    """The expression that makes a dataclass, without its defaults, as a link to the class."""
    given = []
    for field in fields(item):
        value = getattr(item, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.init and value != default:
            given.append(f"{field.name}={value!r}")
    return _link(type(item), f"({', '.join(given)})")


def _link(item: Any, arguments: str = "") -> str:
    return f"[`{item.__name__}{arguments}`][{item.__module__}.{item.__qualname__}]"


def _first_sentence(item: Any) -> str:
    text = " ".join((getdoc(item) or "").split("\n\n")[0].split())
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", re.sub(r" \([^()]* et al\..*?\)", "", text))
    return text.partition(". ")[0].rstrip(".:").replace("|", "\\|")


TABLES: dict[str, Callable[[], str]] = {
    "compare": comparison.table,
    "smallest-error": smallest_error,
    "best-mnist": lambda: best("mnist-1k", "rmse_to_converged"),
    "best-gmm64": lambda: best("gmm64", "rmse_to_converged"),
    "levels": levels,
    "included-levels": included_levels,
    "posteriors": posteriors,
    "best-noise": lambda: best("mnist-1k", "fd", WITH_NOISE),
    "ode-solvers": lambda: solvers(noise=False),
    "sde-solvers": lambda: solvers(noise=True),
    "integrators": integrators,
    "spacings": spacings,
    "mistakes": mistakes.section,
    "plan": lambda: f"```text\n{Plan.within(4, DPMSolver(2), EDM())}\n```",
}
