"""The loop that executes any plan."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..denoisers.apart import first_output
from ..processes.level import Level
from .combine import langevin_step, linear_combination
from .memory import Buffers
from .names import START, index_of
from .plan import Plan
from .tape import Line

Denoise = Callable[[Any, Level[float]], Any]  # the estimate of x_0 at a point and a level
Draw = Callable[[int], Any]  # standard normal noise, by the number of the draw


def iterate(plan: Plan, denoise: Denoise, x: Any, noise: Draw | None = None) -> Iterator[Any]:
    """Execute a plan, yielding each of its states.

    Args:
        plan: the run.
        denoise: ``denoise(x, level)`` is the network.
        x: the state at the plan's start, ``(B, ...)``; or any object that adds and scales.
        noise: ``noise(i)`` is draw i, like x; None for a deterministic plan.

    Raises:
        TypeError: no ``noise`` for a plan that draws noise.
    """
    _check_noise(plan, noise)
    return execute(plan.lines, {START: x}, denoise, noise)


def integrate(plan: Plan, denoise: Denoise, x: Any, noise: Draw | None = None) -> Any:
    """The last state of :func:`iterate`, to the last bit.

    With gradients enabled, the result is differentiable in x and in the parameters of the network. Without
    them the run works in place: it makes at most :attr:`Plan.live` tensors, for any length of the run, and
    does not change x. Then both of the following must hold:

    1. The network keeps no reference to its input, which a later line overwrites.
    2. The network does not change an output that it returned, which later lines read.

    Args:
        plan: the run.
        denoise: ``denoise(x, level)`` is the network.
        x: the state at the plan's start, ``(B, ...)``; or any object that adds and scales.
        noise: ``noise(i)`` is draw i, like x; None for a deterministic plan.

    Raises:
        TypeError: no ``noise`` for a plan that draws noise.
    """
    _check_noise(plan, noise)
    in_place = isinstance(x, Tensor) and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    for state in execute(plan.lines, {START: x}, denoise, noise, Buffers(x) if in_place else combine_new):
        x = state
    return x


def combine_new(line: Line, live: Mapping[str, Any]) -> Any:
    """The linear combination of a line's row, as a new object."""
    (name, weight), *rest = line.row
    if not rest and weight == 1 and (line.level is not None or name in line.done):
        return live[name]  # no later line reads it: hand it over without a copy
    return linear_combination(line.row, live)


def execute(
    lines: Iterable[Line],
    live: dict[str, Any],
    denoise: Denoise,
    noise: Draw | None,
    combine: Callable[[Line, dict[str, Any]], Any] = combine_new,
) -> Iterator[Any]:
    """Execute lines, yielding each state.

    Args:
        lines: part of a plan, in order.
        live: the vectors that later lines read, by name; it is kept up to date.
        denoise: ``denoise(x, level)`` is the network.
        noise: ``noise(i)`` is draw i.
        combine: makes the linear combination of a line's row.
    """
    ask: Denoise | None = None
    copied = combine.copied if isinstance(combine, Buffers) else torch.clone
    for line in lines:
        for name in line.draws:
            if name not in live:
                live[name] = noise(index_of(name))  # type: ignore[misc]
        value = langevin_step(line.row, *line.measured, live) if line.measured else combine(line, live)
        if line.level is not None:
            point = value
            if ask is None:
                value, ask = first_output(denoise, point, copied, line.level)
            else:
                value = ask(point, line.level)
            value = 1 * value if value is point else value
            del point  # its memory is not held beyond its last use
        live[line.name] = value
        for name in line.done:
            del live[name]
        if line.kind == "state":
            yield value


def _check_noise(plan: Plan, noise: Draw | None) -> None:
    if noise is None and plan.stochastic:
        raise TypeError(
            "noise must be a function of the number of a draw, for this plan draws noise; got None"
        )
