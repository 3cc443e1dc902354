"""The run of a solver within a budget of network calls."""

from ..integer import integer
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.catalogue import sde_of
from ..processes.sde import SDE
from ..solvers.auto import Auto
from ..solvers.catalogue import solver_of
from ..solvers.integrators.base import Integration, Integrator
from ..solvers.moves import is_table
from ..spacings.catalogue import spacing_of
from ..spacings.formulas import Spacing
from ..spacings.measured import Measured
from .stability import warn_if_unstable
from .tuned import is_tuned, tuned_plan


def prepare(
    solver: Solver | Integrator | str,
    sde: SDE | str,
    nfe: int | None,
    spacing: Spacing | str | None = None,
    *,
    to_clean: bool = False,
) -> Plan | Integration:
    """The longest run of a solver within ``nfe`` network calls.

    A run that would be unstable even on normal data gives an ``InstabilityWarning``
    (:mod:`scoresde.sampling.stability`).

    Args:
        solver: a solver, its name, ``"tuned:FILE.json"`` for a plan of :func:`scoresde.tune`, or ``"tuned"``
            for the shipped plan of ``nfe`` calls. ``"auto"`` takes the solver that suits ``nfe``; with
            :class:`scoresde.spacings.Measured` levels, the solver that was measured with them.
        sde: the process, or its name.
        nfe: the budget of network calls; None is allowed only for solvers with a tolerance and tuned files.
        spacing: the spacing of the noise levels, or its name; default, :func:`default_spacing`.
        to_clean: end at sigma = 0 in place of the ``t_min`` of the SDE.

    Raises:
        TypeError: ``solver`` is not a solver, or ``nfe`` not an integer.
        ValueError: ``nfe`` is less than the solver needs; the errors of :meth:`Plan.make` and
            :func:`scoresde.sampling.tuned.tuned_plan`.
    """
    return prepared(solver, sde, nfe, spacing, to_clean, stacklevel=4)


def prepared(
    solver: Solver | Integrator | str,
    sde: SDE | str,
    nfe: int | None,
    spacing: Spacing | str | None,
    to_clean: bool,
    stacklevel: int,
) -> Plan | Integration:
    """:func:`prepare`, with the ``stacklevel`` of its warning."""
    sde, nfe = sde_of(sde), None if nfe is None else integer("nfe", nfe, 1)
    if isinstance(solver, str) and is_tuned(solver):
        return tuned_plan(solver, sde, nfe, spacing, to_clean=to_clean)
    spacing = None if spacing is None else spacing_of(spacing)
    called, solver = solver, solver_of(solver) if isinstance(solver, str) else solver
    if isinstance(solver, Auto) and isinstance(spacing, Measured) and nfe is not None:
        solver, spacing = _measured(spacing, sde, nfe)
    if not (isinstance(solver, Integrator) or is_table(solver)):
        what = f", the class: call it, {solver.__name__}()" if isinstance(solver, type) else ""
        raise TypeError(f"solver must be a solver, its name or a plan, got {solver!r}{what}")
    run: Plan | Integration
    if isinstance(solver, Integrator):
        run = solver.prepare(sde, nfe, spacing, to_clean=to_clean)
    elif nfe is None:
        raise TypeError("nfe must be an integer, got None")
    else:
        run = Plan.within(nfe, solver, sde, spacing, to_clean=to_clean)
    warn_if_unstable(solver, called, run, stacklevel)
    return run


def _measured(levels: Measured, sde: SDE, nfe: int) -> tuple[Solver | Integrator, Spacing]:
    """The solver and the levels that were measured together for a number of calls."""
    levels.check(sde)
    choice = levels.choice(nfe)
    try:
        return solver_of(choice.solver), choice.spacing
    except ValueError as error:
        raise ValueError(f"{levels.source}, choice for {choice.calls} calls: {error}") from None
