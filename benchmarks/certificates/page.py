"""A report as a table on the console and as a page of Markdown."""

from collections.abc import Sequence

from rich.table import Table
from tables import console

from certificates.depth import (
    BELOW,
    BEYOND,
    BUDGETS,
    EXACT,
    FEW,
    FLOOR,
    LONGEST,
    NO_IDENTITY,
    ROUNDING,
    Record,
)
from scoresde.denoisers.predictions import PREDICTIONS

COLUMNS = (
    *("solver", "order", "measured", "on", "law", "error", "identity", "calls", "amplif.", "float32"),
    "verdict",
)


def row(one: Record) -> tuple[str, ...]:
    """A certificate as cells."""
    kinds = [fault.split(":")[0] for fault in one["faults"]]
    bad = " ".join(dict.fromkeys(kinds))
    if one["kind"] is None:
        return one["solver"], *["-"] * (len(COLUMNS) - 2), bad
    order = one["order"]
    by_tolerance = one["kind"] == "adaptive"
    if one["no_identity"]:
        identity = "by tolerance" if by_tolerance else f"order {_number(one['point_order'], '.2f')}"
    else:
        identity = _number(one["identity"], ".0e")
    calls = f"from {one['shortest']}" if one["shortest"] != BUDGETS[0] else "kept"
    return (
        one["solver"],
        "-" if one["claimed"] is None else f"{one['claimed']}{' weak' if one['stochastic'] else ''}",
        "by tolerance" if by_tolerance else _number(order, ".2f", "exact"),
        order["sde"] if order else "",
        "" if by_tolerance else _number(one["law_order"], ".2f", "exact"),
        _number(one["error"], ".0e"),
        identity,
        "broken" if "calls" in kinds else calls,
        _number(one["amplification"], ".3g"),
        _number(one["float32"], ".0e"),
        bad or "holds",
    )


def _number(worst: Record | None, form: str, none: str = "-") -> str:
    return none if worst is None else format(worst["value"], form)


def print_table(report: Record) -> None:
    """A row for each solver, then all faults."""
    out = console(130)
    table = Table(title=f"Certificates of {len(report['solvers'])} solvers, worst of {_where(report)}")
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if i in (0, 3, 10) else "right")
    for one in report["solvers"]:
        table.add_row(*row(one), style="bold red" if one["faults"] else None)
    out.print(table)
    for fault in report["faults"]:
        out.print(fault, style="red", soft_wrap=True)
    off = max(v for values in report["predictions"].values() for v in values.values())
    out.print(f"Predictions agree to {off:.0e}, references to {max(report['references'].values()):.0e}.")
    out.print(_combinations(report))


def _combinations(report: Record) -> str:
    number = sum(one["combinations"] for one in report["solvers"])
    broken = sum(": sweep: " in fault for fault in report["faults"])
    return (
        f"{number:,} combinations of solver, SDE, steps ({_ranges(report['sweep'])}), ending and precision: "
        f"{f'{broken} broken' if broken else 'finite, with the calls planned'}."
    )


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]:,}" if len(run) == 1 else f"{run[0]:,}-{run[-1]:,}" for run in runs)


def _where(report: Record) -> str:
    return ", ".join(dict.fromkeys(record["sde"] for record in report["solvers"][0]["runs"]))


def _line(*cells: str) -> str:
    return "|" + "|".join(cells) + "|"


def markdown(report: Record) -> str:
    """The report as a page."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        "# Certificates",
        "",
        f"Written by `python benchmarks/certify.py{' --quick' * report['quick']}` with {versions}. "
        "No network and no samples: data whose denoiser is known exactly, in float64; the worst of "
        f"{_where(report)}.",
        "",
        _line(*COLUMNS),
        "|" + "---|" * len(COLUMNS),
        *(_line(*(cell.replace("|", "\\|") for cell in row(one))) for one in report["solvers"]),
        "",
        "Off: " + "; ".join(report["faults"]) if report["faults"] else "Nothing is off.",
        "",
        _combinations(report),
        "",
        *_legend(report["ladder"]).strip().splitlines(),
        "",
        "No identity: " + "; ".join(f"`{name}`, {why}" for name, why in NO_IDENTITY.items()) + ".",
        "",
        _line("samples of a network that predicts", *PREDICTIONS),
        "|" + "---|" * (1 + len(PREDICTIONS)),
        *(
            _line(sde, *(f"{values[p]:.0e}" for p in PREDICTIONS))
            for sde, values in report["predictions"].items()
        ),
        "",
        "Relative differences to the exact denoiser's samples.",
    ]
    return "\n".join(lines) + "\n"


def _legend(ladder: Sequence[int]) -> str:
    """The meaning of the columns."""
    rungs = ", ".join(map(str, ladder))
    return f"""
- **order**: the order that the solver claims; for a solver that draws noise, the weak order.
- **measured**: the measured order, from runs of {rungs} steps. It is the larger slope of the last two
  doublings with a relative error above {FLOOR:g}. If it is below the claim by more than {BELOW:g} or above
  the claim by more than {BEYOND:g}, the steps double again, up to {LONGEST}; a slope that is still too small
  fails. On the probability-flow ODE: a mixture of three normal distributions, against a reference to 1e-12.
  Weak order: mean and deviation on normal data. *On*: the SDE with the smallest slope, with equal steps in
  lambda or on the spacing `karras`.
- **law**: the order of mean and deviation on normal data, computed exactly from the factors of every draw.
- **error**: the error at 160 steps, whose slope is *measured*. For a solver with a tolerance: the error at a
  thousandth of its default tolerance.
- **identity**: if all data are one point, the distance of the end from this point, over several grids, both
  endings and any number of steps; at most {EXACT:g}. For solvers without it: the order of this error.
- **calls**: *kept*: the counted network calls are as planned and within budgets of 5, 10, 20 and 50. *from
  n*: the smallest of these budgets in which the solver can run is n.
- **amplif.**: the largest sum of absolute weights on network outputs at 10 calls: the factor on their errors.
- **float32**: the largest difference from float64 for the same start and noise, relative to the end, in runs
  of {FEW} steps and more; at most {ROUNDING:g} for every number of steps. With fewer steps, at most this and
  9 times the error of the law, so that the error in float32 is at most 10 times the error in float64 and
  {ROUNDING:g}.
"""
