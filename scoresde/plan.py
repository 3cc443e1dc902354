"""A run written out as a table of weights, and the loop that carries out any such table.

Every method here is *linear*: whatever it adds up is a state, an output of the network, or noise, and the
factors depend on the noise levels alone. So a solver is run once, before there is any data, on symbols: it
asks a :class:`Tape` for the network's output at a point, for noise, and to keep a state, and combines what it
is given as if they were tensors. What the tape has written down then is the run, a general linear method in
the language of numerical analysis (Butcher 2006): any number of carried states, any depth of history, points
that are not states, several draws of noise in a step. It is plain data: print it, compare it, save it.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .apart import first_output
from .checked import check_level, check_lines
from .files import write_atomically
from .grid import MOST, Grid, check_budget
from .integer import integer
from .planning import longest, no_step, warn_of_near_levels
from .rows import Row, langevin, summed
from .sde import SDE, Level
from .spacings import Spacing, listed_steps


@dataclass(eq=False, slots=True)
class Vector:
    """A linear combination of named vectors: states x0, x1, ..., what is held h0, ..., network outputs
    d0, ..., noise z0, ...."""

    weights: Mapping[str, float]

    def __add__(self, other: "Vector") -> "Vector":
        total = dict(self.weights)
        for name, weight in other.weights.items():
            both = total.get(name, 0.0) + weight
            if isinstance(both, float) and not both:  # or a run's vectors would pile up in those of its end
                total.pop(name, None)
            else:  # a tensor, where each sample has weights of its own
                total[name] = both
        return Vector(total)

    def __mul__(self, factor: float) -> "Vector":
        return Vector({name: factor * weight for name, weight in self.weights.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Vector":
        return Vector({name: weight / divisor for name, weight in self.weights.items()})

    def __neg__(self) -> "Vector":
        return -1.0 * self

    def __sub__(self, other: "Vector") -> "Vector":
        return self + -other

    @property
    def row(self) -> Row:
        """The weights that are not zero."""
        return tuple([term for term in self.weights.items() if term[1]])


@dataclass(frozen=True)
class Line:
    """One new vector: the combination ``row`` of earlier ones, or, with a ``level``, the network's output
    there.

    ``measured``, of a Langevin step sized by norms: the row of the score, and the signal-to-noise ratio.
    ``done`` lists the vectors that no later line needs.
    """

    name: str
    row: Row
    level: Level[float] | None = None
    measured: tuple[Row, float] | None = None
    done: tuple[str, ...] = ()

    @property
    def reads(self) -> list[str]:
        """The vectors that the line is made of."""
        return [name for name, _ in self.row + (self.measured[0] if self.measured else ())]


class Tape:
    """What a solver is written against; see :class:`Solver`."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._states = self._outputs = self._held = self._draws = 0

    def start(self) -> Vector:
        """The state that the run begins with."""
        return Vector({"x0": 1.0})

    def denoise(self, x: Vector, level: Level[float]) -> Vector:
        """The network's estimate of x_0 at the point x: one network call."""
        self._outputs += 1
        return self._write(Line(f"d{self._outputs - 1}", x.row, level))

    def keep(self, x: Vector) -> Vector:
        """x as a state: computed once, carried along, and handed to whoever watches the run."""
        self._states += 1
        return self._write(Line(f"x{self._states}", x.row))

    def hold(self, x: Vector) -> Vector:
        """x, computed once for several uses, but no state of the run: a point to call the network at, say."""
        self._held += 1
        return self._write(Line(f"h{self._held - 1}", x.row))

    def noise(self) -> Vector:
        """Fresh standard normal noise."""
        self._draws += 1
        return Vector({f"z{self._draws - 1}": 1.0})

    def langevin(self, x: Vector, score: Vector, snr: float) -> Vector:
        """x + e score + sqrt(2 e) z, a state, with e = 2 (snr |z| / |score|)^2, norms averaged over the
        batch."""
        self._states += 1
        row = (x + self.noise()).row
        return self._write(Line(f"x{self._states}", row, measured=(score.row, snr)))

    def _write(self, line: Line) -> Vector:
        if len(self.lines) == MOST:
            raise ValueError(f"a run of more than {MOST:,} lines is not written; use fewer steps")
        self.lines.append(line)
        return Vector({line.name: 1.0})


class Solver(Protocol):
    """A way from one noise level to the next, as a program on symbols.

    ``solve`` starts from x at the first level of the grid, writes to the tape, and returns the state at the
    last: Euler in sigma / alpha, for example, is ``for t, s in grid.steps(): x = tape.keep(ddim(t, s, x,
    tape.denoise(x, t)))``.
    """

    @property
    def order(self) -> int: ...

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector: ...


@dataclass(frozen=True)
class Plan:
    """A solver's whole run: lines to carry out in order, from a state at ``start`` to one at ``end``.

    ``about``, of a tuned plan: what it was made for, as JSON; it changes no number of the run.
    """

    lines: tuple[Line, ...]
    start: Level[float]
    end: Level[float]
    about: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, lines: Sequence[Line], start: Level[float], end: Level[float]) -> "Plan":
        """The run of lines, each told here which vectors no later one needs."""
        return cls(_with_last_uses(lines), start, end)

    @classmethod
    def make(
        cls,
        solver: Solver,
        sde: SDE,
        steps: int,
        spacing: Spacing | str | None = None,
        *,
        to_clean: bool = False,
    ) -> "Plan":
        """The run of ``steps`` steps.

        Raises:
            ValueError: a grid that is none (:meth:`Grid.build`), or a step that the solver cannot take on it.
        """
        plan, levels = _made(solver, sde, steps, spacing, to_clean)
        warn_of_near_levels(solver, levels, lambda: plan.amplification)
        return plan

    @classmethod
    def within(
        cls,
        nfe: int,
        solver: Solver,
        sde: SDE,
        spacing: Spacing | str | None = None,
        *,
        to_clean: bool = False,
    ) -> "Plan":
        """The longest run of at most ``nfe`` network calls; ValueError if even the shortest needs more.

        Listed times are one run: all of them, or ValueError.
        """
        nfe, least = integer("nfe", nfe), 1 + to_clean
        made = cache(lambda steps: _made(solver, sde, steps, spacing, to_clean))
        low, high = least, max(2 * nfe, least)  # a step may be free, as FreeStart's first one is
        if (listed := listed_steps(spacing)) is not None:
            low = high = listed + to_clean
        else:
            check_budget(nfe)
        if (shortest := made(low)[0].nfe) > nfe:
            raise ValueError(f"nfe must be at least {shortest} for {solver}, got {nfe}")
        plan, levels = made(longest(nfe, low, high, lambda steps: made(steps)[0].nfe))
        warn_of_near_levels(solver, levels, lambda: plan.amplification)
        return plan

    @property
    def levels(self) -> list[Level[float]]:
        """The levels at which the network is called, in order."""
        return [line.level for line in self.lines if line.level is not None]

    @property
    def nfe(self) -> int:
        """The number of network calls."""
        return len(self.levels)

    @property
    def stochastic(self) -> bool:
        """Does the run draw noise after its start?"""
        return any(name[0] == "z" for line in self.lines for name in line.reads)

    @property
    def amplification(self) -> float:
        """The largest sum of absolute weights on network outputs in a line: what their errors can grow by."""
        on_outputs: dict[str, Vector] = {}  # the part of what is held that is made of outputs
        largest = 0.0
        for line in self.lines:
            total = Vector({})
            for name, weight in line.row:
                total = total + weight * on_outputs.get(name, Vector({name: 1.0} if name[0] == "d" else {}))
            if line.name[0] == "h":
                on_outputs[line.name] = Vector({n: w for n, w in line.row if n[0] == "d"})
            else:
                largest = max(largest, sum(map(abs, total.weights.values())))
        return largest

    def __str__(self) -> str:
        rows = [f"{'':>5} {'t':>9} {'lambda':>9}"]
        for line in self.lines:
            level = f"{line.level.t:9.4f} {line.level.lam:+9.3f}" if line.level else " " * 19
            row = " ".join(f"{weight:+.4f} {name}" for name, weight in line.row)
            form = f"network({row})" if line.level else row
            rows.append(f"{line.name:>5} {level}  {form}{'  + measured Langevin step' * bool(line.measured)}")
        return "\n".join(rows)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON."""

        def level(value: Level[float] | None) -> list[str] | None:
            # To the last bit; and JSON has no infinity.
            return value and [float(number).hex() for number in value]

        lines = [
            {"name": line.name, "row": line.row, "level": level(line.level), "measured": line.measured}
            for line in self.lines
        ]
        content = {
            "format": "scoresde plan 1",
            "start": level(self.start),
            "end": level(self.end),
            "lines": lines,
        } | ({} if self.about is None else {"about": dict(self.about)})
        write_atomically(Path(path), json.dumps(content, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """Read what :meth:`save` wrote; the run's bits are the same. ValueError if the file is no plan."""

        def level(value: list[str] | None) -> Any:
            return None if value is None else check_level(Level(*map(float.fromhex, value)))

        def row(value: list[list[Any]]) -> Row:
            return tuple((str(name), float(weight)) for name, weight in value)

        try:
            content = json.loads(Path(path).read_text())
            if content["format"] != "scoresde plan 1":
                raise ValueError(f"its format is {content['format']!r}")
            lines = [
                Line(
                    line["name"],
                    row(line["row"]),
                    level(line["level"]),
                    line["measured"] and (row(line["measured"][0]), float(line["measured"][1])),
                )
                for line in content["lines"]
            ]
            check_lines(lines)
            start, end = level(content["start"]), level(content["end"])
            if not (start and end):
                raise ValueError("its start and end must be levels")
            about = content.get("about")
            if not isinstance(about, dict | None):
                raise ValueError(f"its about must be an object, got {about!r}")
            return replace(cls.of(lines, start, end), about=about)
        except (
            *(OSError, ValueError, OverflowError, RecursionError),
            *(LookupError, TypeError, AttributeError),
        ) as error:
            raise ValueError(f"{path} is no plan of scoresde: {error}") from error


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


def _with_last_uses(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines, each told which vectors are done with, and a state among those to be read first."""
    last: dict[str, int] = {}
    for i, line in enumerate(lines):
        for name in (*line.reads, line.name):
            last[name] = i
    last.pop(lines[-1].name)
    done: dict[int, list[str]] = {}
    for name, i in last.items():
        done.setdefault(i, []).append(name)

    def told(line: Line, over: tuple[str, ...]) -> Line:
        row = line.row
        if line.level is None and line.measured is None:
            row = tuple(sorted(row, key=lambda term: not (term[0][0] in "xh" and term[0] in over)))
        return Line(line.name, row, line.level, line.measured, over)

    return tuple(told(line, tuple(done.get(i, ()))) for i, line in enumerate(lines))


def _made(
    solver: Solver, sde: SDE, steps: int, spacing: Spacing | str | None, to_clean: bool
) -> tuple[Plan, Sequence[Level[float]]]:
    """The run of ``steps`` steps, and the levels between them."""
    grid = Grid.build(sde, steps, spacing, to_clean=to_clean)
    tape = Tape()
    try:
        with np.errstate(all="ignore"):  # a weight that is not finite is seen below
            end = solver.solve(tape, tape.start(), grid)
    except (ZeroDivisionError, OverflowError) as error:
        raise ValueError(no_step(solver, sde, grid.levels)) from error
    if not any(line.level for line in tape.lines):
        raise ValueError(f"{solver} calls no network in a run of {steps} steps")
    last = tape.lines[-1]
    if last.name[0] != "x" or end.row != ((last.name, 1.0),):  # the end is a state, and no network output
        tape.keep(end)
    rows = [row for line in tape.lines for row in (line.row, line.measured[0] if line.measured else ())]
    if not all(math.isfinite(weight) for row in rows for _, weight in row):
        raise ValueError(no_step(solver, sde, grid.levels))
    return Plan.of(tape.lines, grid.levels[0], grid.levels[-1]), grid.levels
