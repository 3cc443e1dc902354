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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_atomically
from ..integer import integer
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.catalogue import steps_of
from ..spacings.formulas import Spacing
from ..spacings.grid import Grid, check_budget
from .checked import check_level, check_lines
from .planning import longest, no_step, warn_of_near_levels
from .tape import Line, Solver, Tape
from .vector import Row, Vector


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
        if (listed := steps_of(spacing)) is not None:
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
        tape.state(end)
    rows = [row for line in tape.lines for row in (line.row, line.measured[0] if line.measured else ())]
    if not all(math.isfinite(weight) for row in rows for _, weight in row):
        raise ValueError(no_step(solver, sde, grid.levels))
    return Plan.of(tape.lines, grid.levels[0], grid.levels[-1]), grid.levels
