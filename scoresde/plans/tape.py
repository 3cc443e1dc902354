"""The lines of a run, and the tape on which a solver writes them."""

from dataclasses import dataclass
from typing import Protocol

from ..processes.level import Level
from ..spacings.grid import MOST, Grid
from .names import KINDS, START, Kind, index_of, name_of
from .vector import Row, Vector


@dataclass(frozen=True)
class Line:
    """One new vector of a run.

    It is the linear combination ``row`` of earlier vectors: a state or a point. With a ``level`` it is an
    output: the network's estimate of x_0 at the point ``row``.

    The loop reads ``done``, ``draws`` and ``freed`` in every run, so a plan computes them once
    (:meth:`Plan.of`). They are empty on a tape.

    Args:
        name: the name of the new vector (:mod:`scoresde.plans.names`).
        row: names of earlier vectors or of noise, with their weights.
        level: the level of a network call; None for a combination.
        measured: the row of the score and the signal-to-noise ratio of a Langevin step whose size follows
            from norms; None for other lines.
        done: the vectors that no later line reads.
        draws: the noise that the line reads.
        freed: the states and points in ``done``, without the start. Their memory can be used again.
    """

    name: str
    row: Row
    level: Level[float] | None = None
    measured: tuple[Row, float] | None = None
    done: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()
    freed: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What the new vector is."""
        return KINDS[self.name[0]]

    @property
    def index(self) -> int:
        """The number of the new vector among the vectors of its kind."""
        return index_of(self.name)

    @property
    def reads(self) -> list[str]:
        """The vectors that the line combines."""
        return [name for name, _ in (self.row + self.measured[0] if self.measured else self.row)]


class Tape:
    """The record of a run: each method writes a line, and returns its vector for later formulas.

    See :class:`Solver`.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._states = self._outputs = self._points = self._draws = 0

    def start(self) -> Vector:
        """The state that the run starts from."""
        return Vector({START: 1.0})

    def denoise(self, x: Vector, level: Level[float]) -> Vector:
        """The network's estimate of x_0 at the point x: one network call."""
        self._outputs += 1
        return self._write(Line(name_of("output", self._outputs - 1), x.row, level))

    def state(self, x: Vector) -> Vector:
        """x as a state: computed once, read by later lines, and yielded by :func:`scoresde.iterate`."""
        self._states += 1
        return self._write(Line(name_of("state", self._states), x.row))

    def point(self, x: Vector) -> Vector:
        """x as a point: computed once and read by later lines, but not yielded; the point of a call, e.g."""
        self._points += 1
        return self._write(Line(name_of("point", self._points - 1), x.row))

    def noise(self) -> Vector:
        """Fresh standard normal noise."""
        self._draws += 1
        return Vector({name_of("noise", self._draws - 1): 1.0})

    def langevin(self, x: Vector, score: Vector, snr: float) -> Vector:
        """A state x + e score + sqrt(2 e) z, with e = 2 (snr |z| / |score|)^2.

        The norms are averaged over the batch when the run is executed.
        """
        self._states += 1
        row = (x + self.noise()).row
        return self._write(Line(name_of("state", self._states), row, measured=(score.row, snr)))

    def _write(self, line: Line) -> Vector:
        if len(self.lines) == MOST:
            raise ValueError(f"a run has at most {MOST:,} lines; use fewer steps")
        self.lines.append(line)
        return Vector({line.name: 1.0})


class Solver(Protocol):
    """A method of integration, as a program on symbols.

    ``solve`` starts from x at the first level of the grid, writes to the tape, and returns the state at the
    last level. Euler in sigma / alpha, for example, is ``for t, s in grid.steps(): x = tape.state(ddim(t, s,
    x, tape.denoise(x, t)))``.
    """

    @property
    def order(self) -> int: ...

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector: ...
