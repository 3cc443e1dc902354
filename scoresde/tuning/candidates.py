"""The candidates of a tuning: stock solvers on stock spacings, as tables and as families of tables."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.sde import SDE
from ..solvers.catalogue import SOLVERS
from ..solvers.integrators.base import Integrator
from ..spacings.catalogue import spacing_of
from ..spacings.composed import Clipped
from ..spacings.formulas import Spacing
from ..spacings.measured import Measured
from .family import Family
from .table import Table

STOCK_SPACINGS = (
    "uniform-lambda",
    "karras:rho=3",
    "karras:rho=5",
    "karras:rho=7",
    "karras:rho=9",
    "uniform-t",
    "quadratic-t",
    "beta",
    "align-your-steps",
    "flow-time:exponent=1.5,scale=1",
    "flow-time:exponent=1.5,scale=2",
    "flow-time:exponent=1.5,scale=4",
    "flow-time:exponent=1.5,scale=6",
)
MEASURED = "measured levels"  # the name of the spacing that was measured on the network
# sigma / alpha at the end of an analytical first step, over the data's standard deviation
FIRST_STEP_RATIOS = (40.0, 20.0, 10.0, 5.0, 2.5)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A solver on a spacing, as a table.

    Args:
        name: unique among the candidates of a tuning.
        solver: name of the solver.
        spacing: name of the spacing.
        levels: the spacing.
        table: its table.
        family: what tuning moves; None for a stock solver that is only compared.
    """

    name: str
    solver: str
    spacing: str
    levels: Spacing
    table: Table
    family: Family | None = None


def scaled_by_data(spacing: str) -> bool:
    """Is it the name of a flow time without a deviation? Then that of the data is meant."""
    return spacing.startswith("flow-time") and "deviation=" not in spacing


def stock_spacings(
    names: Iterable[str] = STOCK_SPACINGS, deviation: float = 1.0, measured: Measured | None = None
) -> dict[str, Spacing]:
    """Spacings by name, and the measured levels, if there are any.

    Args:
        names: of the spacings.
        deviation: the standard deviation of the data, for a flow time that names none; it is added to the
            name.
        measured: levels measured on the network.
    """
    whole = [
        f"{name}{',' if ':' in name else ':'}deviation={deviation:g}" if scaled_by_data(name) else name
        for name in names
    ]
    return {name: spacing_of(name) for name in whole} | ({MEASURED: measured} if measured else {})


def stock_candidates(
    sde: SDE, nfe: int, solvers: Mapping[str, Solver | Integrator], spacings: Mapping[str, Spacing]
) -> list[Candidate]:
    """All solvers with a deterministic plan of ``nfe`` calls, on all spacings; of equal tables, the first."""
    found: dict[tuple[float, ...], Candidate] = {}
    for name, solver in solvers.items():
        if isinstance(solver, Integrator):
            continue
        for spacing, levels in spacings.items():
            try:
                table = _from_noisiest(Table.read(Plan.within(nfe, solver, sde, levels)), sde)
            except ValueError:  # this solver has no such plan on this spacing
                continue
            candidate = Candidate(f"{name} on {spacing}", name, spacing, levels, table)
            found.setdefault(table.rounded_key, candidate)
    return list(found.values())


def tunable_candidates(
    candidate: Candidate,
    sde: SDE,
    nfe: int,
    variance: float,
    window: int,
    ratios: Sequence[float] = FIRST_STEP_RATIOS,
) -> list[Candidate]:
    """A stock candidate with its family: as it is, and with an analytical first step to several levels.

    Args:
        candidate: a stock candidate.
        sde: the process.
        nfe: network calls.
        variance: of the data, the mean over coordinates.
        window: of the family.
        ratios: where the first steps end: sigma / alpha over the data's standard deviation.
    """
    solver = SOLVERS[candidate.solver]
    assert not isinstance(solver, Integrator)
    begin, end = sde.lam_ends()
    first_steps = (-math.log(ratio) - math.log(variance) / 2 for ratio in ratios)
    plain = [begin] * math.isfinite(begin)  # knots must be finite: alpha is not 0 at the first
    made = []
    for lam in (*plain, *(lam for lam in first_steps if lam > begin)):
        spacing, name = candidate.levels, candidate.name
        if lam > begin:
            # Measured levels are of one range; the choice among them can be used on a part of it.
            whole = spacing.choice(nfe).spacing if isinstance(spacing, Measured) else spacing
            spacing = Clipped(whole, lam)
            name += f", analytical first step to sigma / alpha = {math.exp(-lam):.3g}"
        try:
            # The end is the SDE's, also for a list of levels.
            lams = (*sde.lam(spacing(sde, nfe)).tolist()[:-1], end)
            family = Family(sde, solver, lams, variance, window)
            table = family.initial
        except ValueError:  # no such plan on this part of the SDE
            continue
        if table.nfe == nfe:
            made.append(replace(candidate, name=name, table=table, family=family))
    return made


def family_of(candidate: Candidate) -> Family:
    """The family of a tunable candidate."""
    assert candidate.family is not None
    return candidate.family


def named(names: Sequence[str], candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of these names, in the order of the names.

    Raises:
        ValueError: a name that no candidate has: the state that it is from is of another version.
    """
    known = {candidate.name: candidate for candidate in candidates}
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"the saved tuning has the candidate {missing[0]!r}, which is not there; remove it")
    return [known[name] for name in names]


def _from_noisiest(table: Table, sde: SDE) -> Table:
    """The table for an initial state at the SDE's noisiest level, also if its levels begin later."""
    begin = sde.level_at(sde.t_max)
    return replace(table, start=begin, first=table.first * table.start.sigma / begin.sigma)
