"""From a solver to a run, and from a run to its end: for tables and for integrators alike."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from known import mixture
from torch import Tensor

from certificates.depth import BUDGETS, FEW, Array, Record
from scoresde import SDE, Level, Plan, integrate, prepare
from scoresde.plans.executor import Draw
from scoresde.sampling.stability import InstabilityWarning
from scoresde.solvers.integrators.base import Integration, Integrator
from scoresde.solvers.wrappers import Restart
from scoresde.spacings import Spacing


def carry(run: Plan | Integration, denoise: Callable[..., Any], x: Array, noise: Draw | None = None) -> Array:
    """The end of a run that starts from ``x``.

    A plan in float64 runs on arrays, which is faster. A plan in float32 runs on tensors, in place, as in
    ``sample``; so does an integrator.

    Args:
        run: of either kind.
        denoise: ``denoise(x, level)``. A run may also call ``denoise(x, level, rows)``, with one level
            for each of the samples ``rows``: numbers of shape ``(len(rows), 1)``.
        x: ``(n, ...)``.
        noise: draw number i, of the shape of ``x``.
    """
    if isinstance(run, Plan) and x.dtype == np.float64:
        end: Array = integrate(run, denoise, x, noise)
        return end

    def network(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        if rows is None:
            return torch.from_numpy(denoise(x.numpy(), level))
        own = Level(*(number.numpy().reshape(-1, *[1] * (x.ndim - 1)) for number in level))
        return torch.from_numpy(denoise(x.numpy(), own, rows.numpy()))

    def given(i: int) -> Tensor:
        return torch.from_numpy(noise(i))  # type: ignore[misc]

    with torch.no_grad():
        start = torch.from_numpy(x)
        tensor: Tensor = (
            integrate(run, network, start, given)
            if isinstance(run, Plan)
            else run.integrate(network, start, given)
        )
    return tensor.numpy()


def draws_of(run: Plan | Integration) -> int:
    """How many draws of noise a run asks for.

    Raises:
        ValueError: the plan sizes a step by norms: the step is not linear, so its law cannot be certified.
    """
    if isinstance(run, Plan):
        if any(line.measured for line in run.lines):
            raise ValueError("a step sized by norms is not linear, so its law cannot be certified")
        return run.draws
    asked = 0

    def noise(i: int) -> Array:
        nonlocal asked
        asked = max(asked, i + 1)
        return np.zeros((1, 1))

    carry(run, mixture, np.zeros((1, 1)), noise)
    return asked


def counted(solver: Any, sde: SDE, spacing: Spacing, budget: int) -> Record | None:
    """Calls planned and made, and the amplification, of a run within a budget.

    Returns:
        None if the budget is too small for the solver, and is not the largest of BUDGETS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InstabilityWarning)  # only its calls count here
            run = prepare(solver, sde, budget, spacing)
    except ValueError as error:
        if str(error).startswith("nfe must be at least") and budget != max(BUDGETS):
            return None
        raise
    made = 0

    def denoise(x: Array, level: Level[Any], rows: Array | None = None) -> Array:
        nonlocal made
        made += 1
        return mixture(x, level)

    try:
        carry(run, denoise, np.ones((2, 1)), lambda i: np.ones((2, 1)))
    except RuntimeError:  # an adaptive solver that needs more calls than the budget stops within it
        if run.nfe is not None:
            raise
    return {
        "planned": made if run.nfe is None else run.nfe,
        "made": made,
        "amplification": run.amplification if isinstance(run, Plan) else None,
    }


def is_adaptive(solver: Any, sde: SDE) -> bool:
    """Does the solver choose its steps by a tolerance?"""
    if not isinstance(solver, Integrator):
        return False
    try:
        return solver.prepare(sde, None).nfe is None
    except (ValueError, TypeError):
        return False


def refined(solver: Any, factor: float) -> Any:
    """The solver with ``factor`` times as many inner steps (Restart's own ones), and without a tolerance.

    Within a tolerance a solver may end with the result of another solver, which would hide its order.
    """
    if isinstance(solver, Restart) and solver.intervals is not None:
        finer = ((*ends, max(1, round(n * factor)), repeats) for *ends, n, repeats in solver.intervals)
        return replace(solver, intervals=tuple(finer))  # type: ignore[arg-type]
    return replace(solver, tolerance=0.0) if hasattr(solver, "tolerance") else solver


def with_tolerance(solver: Any, rtol: float) -> Any:
    """The solver with another relative tolerance; the absolute one changes by the same factor."""
    return replace(solver, rtol=rtol, atol=solver.atol * rtol / solver.rtol)


def of_length(
    solver: Any, sde: SDE, n: int | None, spacing: Spacing, to_clean: bool
) -> Plan | Integration | None:
    """The plan of n steps, or the integration within n calls; None if n is too small for the solver."""
    if not isinstance(solver, Integrator):
        assert n is not None
        return Plan.make(solver, sde, n, spacing, to_clean=to_clean) if n > to_clean else None
    try:
        run: Integration = solver.prepare(sde, n, spacing, to_clean=to_clean)
        return run
    except ValueError as error:
        if str(error).startswith("nfe must be at least") and n in range(FEW):
            return None
        raise
