"""A run as a table of weights.

A solver of this library is *linear*: it adds states, outputs of the network and noise, with factors that
depend only on the noise levels. So it runs once, before there is any data, on symbols: it asks a
:class:`Tape` for the network's output at a point, for noise, or for a new state, and combines the answers as
if they were tensors. The tape then holds the whole run. In numerical analysis this is a general
linear method (Butcher 2006): any number of states, any length of history, points that are not states, several
draws of noise in a step. A plan is plain data: print it, compare it, save it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..files import write_atomically
from ..integer import integer
from ..processes.level import Level
from ..processes.sde import SDE
from ..spacings.catalogue import spacing_of
from ..spacings.formulas import Spacing
from ..spacings.grid import Grid, check_budget, check_sde
from ..spacings.lists import fixed_steps
from .levels import as_levels, check_run
from .memory import most_alive, with_last_uses
from .names import index_of
from .near_levels import warn_of_near_levels
from .planning import longest, written
from .saved import content_of, parts_of
from .tape import Line, Solver
from .vector import Vector


@dataclass(frozen=True)
class Plan:
    """The whole run of a solver: lines to execute in order, from a state at ``start`` to a state at ``end``.

    Args:
        lines: the lines, with their last uses (:meth:`of` finds them).
        start: the level of the state that the run starts from.
        end: the level of its last state.
        about: the network and the settings of a tuned plan, as JSON; it does not change the run.
    """

    lines: tuple[Line, ...]
    start: Level[float]
    end: Level[float]
    about: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, lines: Sequence[Line], start: Level[float], end: Level[float]) -> "Plan":
        """The run of lines. It finds the vectors that each line reads last."""
        return cls(with_last_uses(lines), start, end)

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

        Args:
            solver: writes the run.
            sde: the process.
            steps: at least 1.
            spacing: of the levels, or its name; None for the default of the process.
            to_clean: the last step goes to sigma = 0.

        Raises:
            ValueError: the grid cannot be built (:meth:`Grid.build`), or the solver cannot take a step on it.
        """
        plan, levels = _made(solver, Grid.build(sde, steps, spacing, to_clean=to_clean))
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
        """The longest run of at most ``nfe`` network calls.

        A spacing that is a list of levels has one length, so that all of its levels must fit.

        Args:
            nfe: the budget of network calls.
            solver: writes the run.
            sde: the process.
            spacing: of the levels, or its name; None for the default of the process.
            to_clean: the last step goes to sigma = 0.

        Raises:
            ValueError: the shortest run needs more calls, or one of :meth:`make`.
        """
        nfe, least = integer("nfe", nfe), 1 + to_clean
        spacing = None if spacing is None else spacing_of(spacing)  # once, not for each number of steps
        made = cache(lambda steps: _made(solver, Grid.build(sde, steps, spacing, to_clean=to_clean)))
        low, high = least, max(2 * nfe, least)  # a step may make no call, as the first of AnalyticalFirstStep
        if (listed := fixed_steps(spacing)) is not None:
            low = high = listed + to_clean
        else:
            check_budget(nfe)
        if (shortest := made(low)[0].nfe) > nfe:
            raise ValueError(f"nfe must be at least {shortest} for {solver}, got {nfe}")
        plan, levels = made(longest(nfe, low, high, lambda steps: made(steps)[0].nfe))
        warn_of_near_levels(solver, levels, lambda: plan.amplification)
        return plan

    @classmethod
    def on(cls, solver: Solver, sde: SDE, levels: Iterable[Level[float]]) -> "Plan":
        """The run on given levels, for example of another program (:func:`scoresde.plans.levels_at`).

        Args:
            solver: writes the run.
            sde: the process of the levels. A solver asks it for levels inside a step, and for its drift.
            levels: at least two, lambda rising, within the ends of the process; the last may be the clean
                level, sigma = 0.

        Raises:
            TypeError: ``levels``, ``solver`` or ``sde`` are not levels, a table solver and an SDE.
            ValueError: other levels, a level that is not on the process, or the solver cannot take a step.
        """
        check_sde(sde)
        given = as_levels(levels)
        check_run(sde, given)
        plan, _ = _made(solver, Grid(sde, given))
        warn_of_near_levels(solver, given, lambda: plan.amplification)
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
        return any(line.draws for line in self.lines)

    @property
    def draws(self) -> int:
        """The number of draws of noise after the start: one more than the largest number of a draw."""
        return max((index_of(name) + 1 for line in self.lines for name in line.draws), default=0)

    @property
    def live(self) -> int:
        """The largest number of vectors held at once by :func:`scoresde.integrate` without gradients.

        It counts the start, states, points, outputs and noise: each is a tensor of the size of the state. The
        network's own memory is not counted.
        """
        return most_alive(self.lines)

    @property
    def amplification(self) -> float:
        """The largest factor by which a line multiplies errors of outputs.

        It is the sum of absolute weights on outputs, in a state or in the point of a call; the outputs inside
        of points count, and earlier states do not.
        """
        outputs: dict[str, Vector] = {}  # the part of each output or point that is made of outputs
        largest = 0.0
        for line in self.lines:
            total = Vector({})
            for name, weight in line.row:
                total = total + weight * outputs.get(name, Vector({}))
            if line.kind == "point":
                outputs[line.name] = total
            else:
                largest = max(largest, sum(map(abs, total.weights.values())))
            if line.kind == "output":
                outputs[line.name] = Vector({line.name: 1.0})
        return largest

    def __str__(self) -> str:
        rows = [f"{'':>5} {'t':>9} {'lambda':>9}"]
        for line in self.lines:
            level = f"{line.level.t:9.4f} {line.level.lam:+9.3f}" if line.level else " " * 19
            row = " ".join(f"{weight:+.4f} {name}" for name, weight in line.row)
            form = f"network({row})" if line.level else row
            rows.append(f"{line.name:>5} {level}  {form}{'  + measured Langevin step' * bool(line.measured)}")
        return "\n".join(rows)

    def to_dict(self) -> dict[str, Any]:
        """The plan as lists, texts and numbers, for use inside other JSON.

        The file ``plan.schema.json`` of this package is its JSON Schema.
        """
        return content_of(self.lines, self.start, self.end, self.about)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Plan":
        """The plan of :meth:`to_dict`, equal to the last bit.

        Raises:
            ValueError: the content is not a plan; the message names the fault.
        """
        lines, start, end, about = parts_of(content)
        return replace(cls.of(lines, start, end), about=about)

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_dict` as JSON. A file is replaced as a whole or not at all."""
        write_atomically(Path(path), json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Plan":
        """The plan that :meth:`save` wrote, equal to the last bit.

        Raises:
            ValueError: the file cannot be read or is not a plan; the message names the file and the fault.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text("utf-8")))
        except RecursionError:
            raise ValueError(f"{path} is no plan of scoresde: it is nested too deeply") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no plan of scoresde: {error}") from error


def _made(solver: Solver, grid: Grid) -> tuple[Plan, Sequence[Level[float]]]:
    """The run on a grid, and the levels between its steps."""
    return Plan.of(written(solver, grid), grid.levels[0], grid.levels[-1]), grid.levels
