"""Draw samples: one general function, and the field's familiar names on top of it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.modes import warn_if_training
from ..denoisers.protocol import Counted, DenoiserLike
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
from .prepare import prepare

Denoise = Callable[..., Tensor]  # of x, a level, and a condition if there is one


Carry = Callable[[Any, Tensor, Draw], Tensor]  # a run, of a network, a state and noise


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
    cond: Tensor | None = None,
    batch_size: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
    compile: bool = False,
) -> Tensor:
    """Draw ``shape[0]`` samples in at most ``nfe`` network calls each.

    There are no gradients here: for those, carry out a plan by :func:`scoresde.integrate`.

    Args:
        denoiser: what estimates x_0. It may write to its input or return a part of it, but not write a new
            output into the memory of an earlier one.
        solver: a solver, its name (:func:`scoresde.solver_of`, :mod:`scoresde.sampling.tuned`),
            or what :func:`prepare` made of it, a :class:`Plan` or a run, which brings its own ``nfe``,
            ``spacing`` and end. A tuned plan warns when it is run with another network than its own.
        shape: of the result, ``(B, ...)``.
        nfe: the budget of network calls; kept, and counted before the run.
        spacing: where the noise levels lie, or its name (:func:`scoresde.spacing_of`); default, equal steps
            in the half log-SNR.
        to_clean: the last step goes to sigma = 0, and not only to the SDE's ``t_min``.
        seed: of the noise.
        ids: ``(B,)`` numbers of the samples, which with ``seed`` decide their noise; default 0 .. B - 1.
            Sample 12,345 has the same noise in any batch, order or process.
        x: ``(B, ...)``, the state to start from, which is copied; default, noise at the run's first level.
        cond: ``(B,)`` or ``(B, ...)``, handed to the network: integers ``(B,)`` of any type, as int64, to one
            that has ``classes``.
        batch_size: samples at a time; default, all.
        device: of the state.
        dtype: of the state: float32 or float64. The network's precision is the denoiser's.
        progress: show a progress bar with the time left.
        compile: compile the network, the noise and the sums of a plan (torch.compile), which takes from
            seconds to minutes once a process and a shape, whatever the plan; results differ by roundings.

    Returns:
        ``(B, ...)`` on ``device``.

    Raises:
        TypeError, ValueError: an argument that cannot be, before the network is called.
        FloatingPointError: the network returned something that is not finite; says in which call, at which t.
    """
    shape = checks.shape_of(shape)
    inner = denoiser.denoiser if isinstance(denoiser, Counted) else denoiser
    checks.check_denoiser(inner)
    seed = integer("seed", seed)
    checks.check_tensors(shape, ids, x, dtype)
    cond = checks.conditions(cond, shape[0], inner)
    size = checks.size_of(batch_size, shape[0])
    if isinstance(solver, Plan | Integration):
        if nfe is not None or spacing is not None or to_clean:
            raise TypeError("a plan has its own nfe, spacing and end; give none of them beside it")
        run = solver
    else:
        run = prepare(solver, denoiser.sde, nfe, spacing, to_clean=to_clean)
    checks.check_prediction(inner, run)
    if isinstance(run, Plan) and run.about is not None:
        check_levels(run, inner.sde, "the plan")
        check_made_for(run, inner, stacklevel=4)
    warn_if_training(inner, stacklevel=4)
    carry = _carrier(run, compile)
    network = compiled_denoise(inner) if compile else inner

    def denoise(x: Tensor, level: Level[Any], *cond: Tensor) -> Tensor:
        if isinstance(denoiser, Counted):
            denoiser.count(x)
        return network(x, level, *cond)

    ids = torch.arange(shape[0]) if ids is None else ids.long()
    batches = range(0, shape[0], size)
    results = []
    total = None if run.nfe is None else run.nfe * len(batches)
    with tqdm(total=total, desc="sampling", unit="call", disable=not progress) as bar:
        for first in batches:
            part = slice(first, first + size)
            noise = Noise(seed, ids[part].to(device), shape[1:])
            draw = compiled_noise(noise) if compile else noise
            begin = run.start.sigma * draw(0).to(dtype) if x is None else x[part].to(device, dtype, copy=True)
            given = None if cond is None else cond[part].to(device)
            results.append(_finite(carry, denoise, begin, later(draw, dtype), given, bar.update))
    return torch.cat(results)


def _finite(
    carry: Carry, denoise: Denoise, x: Tensor, noise: Draw, cond: Tensor | None, tick: Callable[[], Any]
) -> Tensor:
    """The end of a run; only if it is not finite is the run repeated, looking at every call."""

    def ask(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        if cond is None:
            return denoise(x, level)
        return denoise(x, level, cond if rows is None else cond[rows])

    def call(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        tick()
        return ask(x, level, rows)

    calls = 0

    def watch(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        nonlocal calls
        calls += 1
        d = ask(x, level, rows)
        finite = torch.isfinite(d.reshape(len(d), -1)).all(1)
        if not finite.all():
            if rows is not None:  # the level of the first sample that is not finite
                level = Level(*(number[~finite.to(number.device)][0].item() for number in level))
            raise FloatingPointError(
                f"the network's output is not finite in call {calls}, at t = {level.t:.6g}, sigma / alpha = "
                f"{level.sigma / level.alpha if level.alpha else float('inf'):.6g}"
            )
        return d

    try:
        end = carry(call, x, noise)
    except (AssertionError, FloatingPointError):  # torchdiffeq asserts on a step that is not finite
        carry(watch, x, noise)
        raise
    if not torch.isfinite(end).all():
        carry(watch, x, noise)
        raise FloatingPointError(
            "the state overflowed, though every output of the network is finite; use more steps"
        )
    return end


def _carrier(run: Plan | Integration, compile: bool) -> Carry:
    """What carries out a run."""
    if isinstance(run, Plan):
        return partial(integrate_compiled if compile else integrate, run)
    if compile:
        raise ValueError("compile is for plans; with a solver that makes none, compile the network by itself")
    return run.integrate
