"""Adams methods on the velocity with a corrector, and a rule that takes one by the number of calls."""

from dataclasses import dataclass
from math import inf

from ..plans.tape import Tape
from ..plans.vector import Vector
from ..spacings.grid import Grid
from .adams import ExponentialAdams


def corrected_velocity(outputs: int, finish: str = "same") -> ExponentialAdams:
    """Exponential Adams on the velocity in u, with a corrector of one more output."""
    return ExponentialAdams(
        outputs, corrector=outputs + 1, prediction="velocity", variable="u", finish=finish
    )


VELOCITY = {
    "velocity-p2c3": corrected_velocity(2, "lower"),
    "velocity-p3c4": corrected_velocity(3, "lower"),
    "velocity-p4c5": corrected_velocity(4),
    "velocity-p5c6": corrected_velocity(5),
}

# The most calls of a run, and the solver of runs of up to so many calls.
RULE: tuple[tuple[float, str], ...] = (
    (16, "velocity-p3c4"),
    (30, "velocity-p4c5"),
    (inf, "velocity-p5c6"),
)


@dataclass(frozen=True)
class Auto:
    """The solver on the velocity that suits the number of calls: the more calls, the more outputs a step.

    ``velocity-p3c4`` up to 16 calls, ``velocity-p4c5`` up to 30, ``velocity-p5c6`` beyond: exponential Adams
    (Zhang and Chen 2022, arXiv 2204.13902) on the velocity in u = sigma / (alpha + sigma), predicted from p
    outputs and corrected with p + 1 (Zhao et al. 2023, arXiv 2302.04867), one call a step. The first ends
    with steps of lower order, as the codes of UniPC do at few steps. The rule was measured on mixtures and on
    images.

    With levels that were measured on a network (:class:`scoresde.spacings.Measured`),
    :func:`scoresde.prepare` takes the solver that was measured with them in place of this rule.
    """

    @property
    def order(self) -> int:
        """Of convergence: of the solver for many calls."""
        return VELOCITY[rule(inf)].order

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        return VELOCITY[rule(len(grid.levels) - 1)].solve(tape, x, grid)


def rule(calls: float) -> str:
    """The name of the solver of :class:`Auto` for a run of so many calls."""
    return next(name for most, name in RULE if calls <= most)
