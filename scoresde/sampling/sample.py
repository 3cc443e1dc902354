"""Draw samples with any solver."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.conditions import Condition, moved, rows_of
from ..denoisers.modes import warn_if_training
from ..denoisers.protocol import DenoiserLike, Foreign, Watched, as_denoiser, unwatched, watched_as
from ..integer import integer
from ..noise import Noise, later
from ..plans.compiled import compiled_denoise, compiled_noise, integrate_compiled
from ..plans.executor import Draw, integrate
from ..plans.fingerprint import check_levels, check_made_for
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.level import Level
from ..solvers.integrators.base import Integration, Integrator
from ..spacings.formulas import Spacing
from . import checks
from .prepare import prepared

Denoise = Callable[..., Tensor]  # of x, a level, and rows of the batch if x holds only some

Carry = Callable[[Denoise, Tensor, Draw], Tensor]  # the end of a run, from a network, a state and noise


@torch.no_grad()
def sample(
    denoiser: DenoiserLike,
    solver: Solver | Integrator | Plan | Integration | str,
    shape: Sequence[int],
    *,
    nfe: int | None = None,
    spacing: Spacing | str | None = None,
    to_clean: bool = False,
    seed: int = 0,
    ids: Tensor | None = None,
    x: Tensor | None = None,
    cond: Condition = None,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    compile: bool = False,
) -> Tensor:
    """Draw ``shape[0]`` samples in at most ``nfe`` network calls each.

    The result has no gradients. For gradients, use :func:`scoresde.integrate` with a plan.

    Args:
        denoiser: the estimate of x_0, a :class:`DenoiserLike` or any callable with an ``sde``. It may write
            to its input or return a part of it, but must not write a new output into the memory of an
            earlier one.
        solver: ``"auto"``, which suits ``nfe``; a solver or its name (:func:`scoresde.solver_of`,
            :mod:`scoresde.sampling.tuned`); or the result of :func:`prepare`, a :class:`Plan` or an
            integration, with its own ``nfe``, ``spacing`` and end. A tuned plan warns if it runs with another
            network than its own.
        shape: the shape of the result, ``(B, ...)``.
        nfe: the budget of network calls for each sample; a run never exceeds it.
        spacing: the spacing of the noise levels, or its name (:func:`scoresde.spacing_of`); default,
            :func:`scoresde.spacings.default_spacing`, :class:`scoresde.spacings.FlowTime`.
        to_clean: end at sigma = 0 in place of the ``t_min`` of the SDE.
        seed: the seed of the noise.
        ids: the numbers of the samples, ``(B,)``; default 0 .. B - 1. The seed and its number determine the
            noise of a sample: sample 12,345 has the same noise in any batch, order or process.
        x: the initial states, ``(B, ...)``, which are copied; default, noise at the first level of the run.
        cond: conditions ``(B, ...)``, a tensor, or a nested dict, tuple or list of tensors and None. For a
            denoiser with ``classes``, labels ``(B,)`` of any integer type.
        batch_size: the number of samples in a batch; default, all.
        device: the device of the state.
        dtype: the type of the state, float32 or float64. The denoiser has its own precision.
        progress: show a progress bar.
        compile: compile the network, the noise and the sums of a plan (torch.compile). This takes from
            seconds to minutes, once for each process and shape; results differ by roundings.

    Returns:
        The samples, ``(B, ...)`` on ``device``.

    Raises:
        TypeError: an argument of the wrong type, before the first network call.
        ValueError: an argument of the wrong value, before the first network call.
        FloatingPointError: an output of the network is not finite; the message names the call and its t.
    """
    shape, denoiser = checks.shape_of(shape), as_denoiser(denoiser)
    seed = integer("seed", seed)
    checks.check_tensors(shape, ids, x, dtype)
    cond = checks.conditions(cond, shape[0], denoiser)
    size = checks.size_of(batch_size, shape[0])
    run = _run(solver, denoiser, nfe, spacing, to_clean)
    carry = _carrier(run, compile)
    if compile:
        checks.check_no_products(denoiser, run, "compile")
    denoiser = watched_as(denoiser, _compiled(unwatched(denoiser))) if compile else denoiser
    ids = torch.arange(shape[0]) if ids is None else ids.long()
    batches = [slice(first, first + size) for first in range(0, shape[0], size)]
    results = []
    total = None if run.nfe is None else run.nfe * len(batches)
    with tqdm(total=total, desc="sampling", unit="call", disable=not progress) as bar:
        for part in batches:
            noise = Noise(seed, ids[part].to(device), shape[1:])
            draw = compiled_noise(noise) if compile else noise
            begin = run.start.sigma * draw(0).to(dtype) if x is None else x[part].to(device, dtype, copy=True)
            given = moved(rows_of(cond, part), device)
            results.append(_finite(carry, denoiser, begin, later(draw, dtype), given, bar.update))
    return torch.cat(results)


def _run(
    solver: Solver | Integrator | Plan | Integration | str,
    denoiser: DenoiserLike,
    nfe: int | None,
    spacing: Spacing | str | None,
    to_clean: bool,
) -> Plan | Integration:
    """The run of :func:`sample`'s arguments, checked against the denoiser."""
    if isinstance(solver, Plan | Integration):
        if nfe is not None or spacing is not None or to_clean:
            raise TypeError("a plan has its own nfe, spacing and end; give none of them beside it")
        run = solver
    else:
        run = prepared(solver, denoiser.sde, nfe, spacing, to_clean, stacklevel=6)
    inner = unwatched(denoiser)
    checks.check_prediction(inner, run)
    if isinstance(run, Plan) and run.about is not None:
        check_levels(run, inner.sde, "the plan")
        check_made_for(run, inner, stacklevel=5)
    warn_if_training(inner, stacklevel=5)
    return run


def _compiled(denoiser: DenoiserLike) -> DenoiserLike:
    return Foreign(compiled_denoise(denoiser), denoiser.sde, denoiser.net)


def _finite(
    carry: Carry,
    denoiser: DenoiserLike,
    x: Tensor,
    noise: Draw,
    cond: Condition,
    tick: Callable[[], object],
) -> Tensor:
    """The end of a run, with a ``tick`` at each call.

    Only if it is not finite, the run is repeated with a check of each call: the check waits for the device.
    """

    def watch() -> None:
        carry(_given(cond, Watched(denoiser, _FiniteCheck())), x, noise)

    try:
        end = carry(_given(cond, Watched(denoiser, lambda *_: tick())), x, noise)
    except (AssertionError, FloatingPointError):  # torchdiffeq asserts on a step that is not finite
        watch()
        raise
    if not torch.isfinite(end).all():
        watch()
        raise FloatingPointError(
            "the state overflowed, though every output of the network is finite; use more steps"
        )
    return end


def _given(cond: Condition, denoiser: DenoiserLike) -> Denoise:
    """The denoiser with the conditions of a batch, to ask for all of it or for some ``rows``."""

    def ask(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        return denoiser(x, level, cond if rows is None else rows_of(cond, rows))

    return ask


class _FiniteCheck:
    """A FloatingPointError at the first call with an estimate that is not finite."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, level: Level[Any], estimate: Tensor) -> None:
        self.calls += 1
        finite = torch.isfinite(estimate.reshape(len(estimate), -1)).all(1)
        if finite.all():
            return
        # Of one level for each sample, the first with an estimate that is not finite.
        one = Level(*(n[~finite.to(n.device)][0] if isinstance(n, Tensor) and n.ndim else n for n in level))
        raise FloatingPointError(
            f"the network's output is not finite in call {self.calls}, at t = {one.t:.6g}, sigma / alpha = "
            f"{one.sigma / one.alpha if one.alpha else float('inf'):.6g}"
        )


def _carrier(run: Plan | Integration, compile: bool) -> Carry:
    """The function that carries out a run."""
    if isinstance(run, Plan):
        return partial(integrate_compiled if compile else integrate, run)
    if compile:
        raise ValueError("compile is for plans; for a solver without a plan, compile the network itself")
    return run.integrate
