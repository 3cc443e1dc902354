"""All figures of one solver on one problem, and the faults in them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from certificates.depth import (
    BELOW,
    BEYOND,
    BUDGETS,
    ENDS,
    EXACT,
    FALLS,
    FLOOR,
    LONGEST,
    PER_TOLERANCE,
    PROBLEMS,
    SAMPLES,
    STANDARD_ERRORS,
    TIGHTER,
    Depth,
    Record,
    no_identity,
    sde_name,
)
from certificates.law import law_errors, ode_error, order_of, sampled_law
from certificates.runs import counted, draws_of, is_adaptive, refined, with_tolerance
from certificates.sweep import swept
from scoresde import Plan, UniformLambda, solver_of
from scoresde.solvers.integrators.base import Integration, Integrator

Make = Callable[..., Plan | Integration]  # (rung of the ladder, spacing, to_clean) -> run


def certify(name: str, problem: str, depth: Depth) -> Record:
    """All figures of one solver on one problem, and the faults. A crash is a fault, so the others go on."""
    record: Record = {"solver": name, "sde": problem, "faults": []}
    try:
        solver = solver_of(name)
        record |= figures(solver, problem, depth)
        record["faults"] = faults(record, exact=no_identity(solver) is None)
    except Exception as error:
        record["faults"] = [f"crashed: {type(error).__name__}: {error}"]
    return record


def figures(solver: Any, problem: str, depth: Depth) -> Record:
    """The figures of one solver on one problem."""
    sde, spacing = PROBLEMS[problem]
    kind = _kind(solver, problem)
    adaptive = kind == "adaptive"
    claimed = solver.order if kind == "table" else getattr(solver, "order", None)
    rungs: Sequence[float] = [solver.rtol / part for part in TIGHTER] if adaptive else depth.ladder
    make = _runs(solver, kind, problem, depth.ladder[0])
    stochastic = draws_of(make(rungs[0])) > 0
    sampled = adaptive and stochastic
    if sampled:  # chance hides the error at tighter tolerances, and these runs are slow
        rungs = rungs[:1]

    @cache
    def law(rung: float) -> tuple[float, float]:
        return sampled_law(make(rung)) if sampled else law_errors(make(rung))

    def curve(error: Callable[[float], float]) -> Record:
        return _curve(error, rungs, None if adaptive else claimed or 1)

    point = curve(lambda rung: law(rung)[1])
    # An adaptive solver takes the same steps on every spacing.
    ends = [end for end in ENDS if not adaptive or end[0] is UniformLambda()]
    identity = [
        law_errors(make(rungs[0], *end))[1] for end in ends if not (sampled or end == (spacing, False))
    ]
    record: Record = {
        "kind": kind,
        "claimed": claimed,
        "stochastic": stochastic,
        "ode": None if stochastic else curve(lambda rung: ode_error(make(rung), sde_name(problem))),
        "law": curve(lambda rung: law(rung)[0]),
        "point": point,
        "identity": max([*identity, *point["errors"].values()]),
        "calls": {budget: counted(solver, sde, spacing, budget) for budget in BUDGETS},
    }
    if problem in depth.swept:
        record["sweep"] = swept(solver, problem, depth.sweep)
    return record


def _kind(solver: Any, problem: str) -> str:
    if not isinstance(solver, Integrator):
        return "table"
    return "adaptive" if is_adaptive(solver, PROBLEMS[problem][0]) else "black box"


def _runs(solver: Any, kind: str, problem: str, fewest: int) -> Make:
    """The runs of a solver by the rung of its ladder, a number of steps or a tolerance; each made once.

    Inner steps become finer with the steps: ``fewest`` steps have as many inner steps as the solver says.
    """
    sde, usual = PROBLEMS[problem]

    @cache
    def make(rung: float, spacing: Any = usual, to_clean: bool = False) -> Plan | Integration:
        if kind == "table":
            steps = int(rung)
            return Plan.make(refined(solver, steps / fewest), sde, steps, spacing, to_clean=to_clean)
        if kind == "adaptive":
            run: Integration = with_tolerance(solver, rung).prepare(sde, None, spacing, to_clean=to_clean)
        else:
            run = refined(solver, 1.0).prepare(sde, int(rung), spacing, to_clean=to_clean)
        return run

    return make


def _curve(error: Callable[[float], float], rungs: Sequence[float], claimed: int | None) -> Record:
    """Errors by rung, and the measured order.

    The number of steps doubles, up to LONGEST, while the measured order is too low, or too high to judge.

    Args:
        claimed: the order; None if the rungs are tolerances, which have no order.
    """
    errors = {rung: error(rung) for rung in rungs}
    order = None if claimed is None else order_of(errors)
    while order is not None and claimed is not None and not claimed - BELOW <= order <= claimed + BEYOND:
        n = 2 * max(errors)
        if n > LONGEST:
            break
        errors[n] = error(n)
        order = order_of(errors)
    return {"errors": errors, "order": order}


def faults(record: Record, exact: bool) -> list[str]:
    """The faults in the figures of one solver on one problem.

    Args:
        exact: must the solver carry a point mass exactly?
    """
    found, claimed = [], record["claimed"] or 1  # without a claim, the least order of convergence
    curves = {"order": record["ode"], "law": record["law"], "point mass": None if exact else record["point"]}
    for name, curve in curves.items():
        if curve is None:
            continue
        if record["kind"] == "adaptive":
            found += [f"{name}: {fault}" for fault in _tolerance_faults(curve, record["stochastic"])]
        elif curve["order"] is not None and not curve["order"] >= claimed - BELOW:
            found.append(f"{name}: {curve['order']:.2f} measured, {claimed} claimed")
    if exact and not record["identity"] <= EXACT:
        found.append(f"identity: a point mass is off by {record['identity']:.1e}")
    for budget, calls in record["calls"].items():
        if calls is not None and not (calls["made"] == calls["planned"] <= budget):
            found.append(f"calls: {calls['made']} made, {calls['planned']} planned, budget {budget}")
    if "sweep" in record:
        found += record["sweep"]["faults"]
    return found


def _tolerance_faults(curve: Record, stochastic: bool) -> list[str]:
    """The faults in errors by tolerance."""
    errors = list(curve["errors"].values())
    loose, tight = errors[0], errors[-1]
    found = [
        f"error {error:.1e} at tolerance {tol:g}"
        for tol, error in curve["errors"].items()
        if not error <= PER_TOLERANCE * tol
    ]
    if not (stochastic or tight <= max(loose / FALLS, FLOOR)):
        found.append(
            f"error {tight:.1e} at a thousandth of the tolerance, {loose:.1e} at the whole tolerance"
        )
    if stochastic and not tight <= STANDARD_ERRORS * SAMPLES**-0.5:
        found.append(f"error {tight:.1e} of {SAMPLES} samples")
    return found
