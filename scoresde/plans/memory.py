"""The memory of a run: when a vector is read last, and how its memory is used again."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .combine import linear_combination
from .names import HELD, KINDS, LETTERS, START
from .tape import Line
from .vector import Row

TEMPORARIES = 5  # of a measured Langevin step: x, the score, their sum, the scaled noise, and the new state


def with_last_uses(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines, each with the vectors that it reads last as ``done``, and its ``draws`` and ``freed``.

    A state or point among them comes first in the row, so that the result can overwrite it.
    """
    last: dict[str, int] = {}
    draws: dict[int, list[str]] = {}
    for i, line in enumerate(lines):
        for name in line.reads:
            last[name] = i
            if name[0] == LETTERS["noise"]:
                draws.setdefault(i, []).append(name)
        last[line.name] = i
    last.pop(lines[-1].name)
    done: dict[int, list[str]] = {}
    held: dict[int, list[str]] = {}  # the states and points among them
    for name, i in last.items():
        done.setdefault(i, []).append(name)
        if KINDS[name[0]] in HELD:
            held.setdefault(i, []).append(name)
    return tuple(
        [
            Line(
                line.name,
                _held_first(line, held[i]) if i in held else line.row,
                line.level,
                line.measured,
                tuple(done.get(i, ())),
                tuple(draws.get(i, ())),
                tuple([name for name in held[i] if name != START]) if i in held else (),
            )
            for i, line in enumerate(lines)
        ]
    )


def _held_first(line: Line, held: Sequence[str]) -> Row:
    if line.level is None and line.measured is None:
        return tuple(sorted(line.row, key=lambda term: term[0] not in held))
    return line.row


class Buffers:
    """Combines rows in memory that is used again: a buffer whose vector no later line reads, or a new one.

    It overwrites only tensors that it made: no output, no noise, and not the start.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.free = x, list[Tensor]()

    def __call__(self, line: Line, live: Mapping[str, Any]) -> Any:
        (name, weight), *rest = line.row
        freed = [n for n in line.freed if n in live]
        if not rest and weight == 1 and (line.level is not None or name in freed):
            value = live[name]
        elif name in freed:  # with_last_uses puts it first
            value = self.sum(line, live, live[name])
        else:
            value = self.sum(line, live, self.free.pop() if self.free else torch.empty_like(self.x))
            if line.level is not None:
                self.free.append(value)  # a point is free again after its call
        self.free += [live[n] for n in freed if line.level is not None or live[n] is not value]
        return value

    def copied(self, x: Tensor) -> Tensor:
        """A copy of the point x, in a buffer that is free again after this call."""
        self.free = self.free or [torch.empty_like(self.x)]
        return self.free[0].copy_(x)

    def sum(self, line: Line, live: Mapping[str, Any], out: Tensor) -> Tensor:
        """The row's linear combination, written to ``out``, which may be its first vector."""
        total: Tensor = linear_combination(line.row, live, out)
        return total


def most_alive(lines: Sequence[Line]) -> int:
    """The largest number of tensors that :class:`Buffers`, the outputs and the noise of a run hold at once.

    The start counts, and is held to the end. The lines have their last uses (:func:`with_last_uses`).
    """
    buffers = free = 0
    held: set[str] = set()  # outputs and noise
    most, called = 1, False
    for line in lines:
        held.update(line.draws)
        call, freed = line.level is not None, [name for name in line.freed if name != line.name]
        if line.measured:
            most = max(most, 1 + buffers + len(held) + TEMPORARIES)
            buffers += 1 - len(freed)
        else:
            (first, weight), *rest = line.row
            overwrites = first in freed
            if not (overwrites or (call and not rest and weight == 1)):
                buffers, free = (buffers, free - 1) if free else (buffers + 1, free)
                free += call
            free += len(freed) - (overwrites and not call)
        if call:
            if not (called or free):  # the first call is of a copy
                buffers, free = buffers + 1, free + 1
            called = True
            held.add(line.name)
        most = max(most, 1 + buffers + len(held))
        held.difference_update(line.done)
    return most
