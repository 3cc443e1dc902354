"""What a solver writes its run on."""

from dataclasses import dataclass
from typing import Protocol

from ..processes.level import Level
from ..spacings.grid import MOST, Grid
from .vector import Row, Vector


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

    def state(self, x: Vector) -> Vector:
        """x as a state: computed once, carried along, and handed to whoever watches the run."""
        self._states += 1
        return self._write(Line(f"x{self._states}", x.row))

    def point(self, x: Vector) -> Vector:
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
    last: Euler in sigma / alpha, for example, is ``for t, s in grid.steps(): x = tape.state(ddim(t, s, x,
    tape.denoise(x, t)))``.
    """

    @property
    def order(self) -> int: ...

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector: ...
