"""The corrected velocity solvers, and a rule that chooses one from the number of calls."""

from dataclasses import dataclass

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .adams import ExponentialAdams


def corrected_velocity(outputs: int, finish: str = "same") -> ExponentialAdams:
    """Exponential Adams on the velocity in u, with a corrector of one more output."""
    return ExponentialAdams(
        outputs, corrector=outputs + 1, prediction="velocity", variable="u", finish=finish
    )


# From the most calls of a run to its solver by name; a run of more calls takes the last.
RULE: tuple[tuple[float, str], ...] = (
    (6, "velocity-p2c3"),
    (30, "velocity-p3c4"),
    (float("inf"), "velocity-p5c6"),
)

VELOCITY = {
    "velocity-p2c3": corrected_velocity(2, "lower"),
    "velocity-p3c4": corrected_velocity(3, "lower"),
    "velocity-p5c6": corrected_velocity(5),
}


@dataclass(frozen=True)
class Auto:
    """The corrected velocity solver that suits the number of calls: more outputs, the more calls.

    ``velocity-p2c3`` up to 6 calls, ``velocity-p3c4`` up to 30, then ``velocity-p5c6``; one call a step. Of
    few calls, high orders are of no use; a few low steps at the end are the published rule of UniPC.

    With levels that were measured on the network (:class:`scoresde.spacings.Measured`), ``auto`` in
    :func:`scoresde.prepare` is the solver that was measured with them.
    """

    order = 3

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return VELOCITY[rule(len(grid.levels) - 1)].solve(tape, x, grid)


def rule(calls: int) -> str:
    """The name of the solver of :class:`Auto` for a run of so many calls."""
    return next(name for most, name in RULE if calls <= most)
