"""The loop that carries out any plan."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..denoisers.apart import first_output
from ..processes.level import Level
from .plan import Plan
from .tape import Line
from .vector import langevin, summed

Denoise = Callable[[Any, Level[float]], Any]


Draw = Callable[[int], Any]


def iterate(plan: Plan, denoise: Denoise, x: Any, noise: Draw | None = None) -> Iterator[Any]:
    """Carry out a plan from the state x, yielding every state it keeps.

    A state may be anything that adds and scales. ``denoise(x, level)`` is the network, ``noise(i)`` draw i.
    """
    return carry_out(plan.lines, {"x0": x}, denoise, noise)


def integrate(plan: Plan, denoise: Denoise, x: Any, noise: Draw | None = None) -> Any:
    """The state that :func:`iterate` ends with, to the last bit; without gradients, made in place.

    With gradients it is differentiable in x and in the network's parameters. The network may keep neither
    its input nor its output for itself: the one is overwritten, and the other read again in later steps. x is
    not touched. No more buffers are made than the run has live vectors, whatever its length.
    """
    in_place = isinstance(x, Tensor) and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    for state in carry_out(plan.lines, {"x0": x}, denoise, noise, Buffers(x) if in_place else combined):
        x = state
    return x


def combined(line: Line, live: Mapping[str, Any]) -> Any:
    """The line's row, as something new."""
    (name, weight), *rest = line.row
    if not rest and weight == 1 and (line.level is not None or name in line.done):
        return live[name]  # nobody else's
    return summed(line.row, live)


def carry_out(
    lines: Iterable[Line],
    live: dict[str, Any],
    denoise: Denoise,
    noise: Draw | None,
    combine: Callable[[Line, dict[str, Any]], Any] = combined,
) -> Iterator[Any]:
    """Carry out lines on the vectors that are live, which are kept up to date, yielding every state."""
    ask: Denoise | None = None
    copied = combine.copied if isinstance(combine, Buffers) else torch.clone
    for line in lines:
        for name in line.reads:
            if name[0] == "z" and name not in live:
                live[name] = noise(int(name[1:]))  # type: ignore[misc]
        value = langevin(line.row, *line.measured, live) if line.measured else combine(line, live)
        if line.level is not None:
            point = value
            if ask is None:
                value, ask = first_output(denoise, point, copied, line.level)
            else:
                value = ask(point, line.level)
            value = 1 * value if value is point else value
        live[line.name] = value
        for name in line.done:
            del live[name]
        if line.name[0] == "x":
            yield value


class Buffers:
    """Combines rows in buffers that are used again: that of a vector which no later line needs, or new ones.

    Only what was made here is overwritten: no network output, no noise, and not the start.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.free = x, list[Tensor]()

    def __call__(self, line: Line, live: Mapping[str, Any]) -> Any:
        (name, weight), *rest = line.row
        done = [n for n in line.done if n[0] in "xh" and n != "x0" and n in live]
        if not rest and weight == 1 and (line.level is not None or name in done):
            value = live[name]
        elif name in done:  # first of its row, if any is
            value = self.sum(line, live, live[name])
        else:
            value = self.sum(line, live, self.free.pop() if self.free else torch.empty_like(self.x))
            if line.level is not None:
                self.free.append(value)  # after this line's network call
        self.free += [live[n] for n in done if line.level is not None or live[n] is not value]
        return value

    def copied(self, x: Tensor) -> Tensor:
        """x in a buffer, which is free again after this line's network call."""
        self.free = self.free or [torch.empty_like(self.x)]
        return self.free[0].copy_(x)

    def sum(self, line: Line, live: Mapping[str, Any], out: Tensor) -> Tensor:
        """The row, written to ``out``, which may be its first vector."""
        total: Tensor = summed(line.row, live, out)
        return total
