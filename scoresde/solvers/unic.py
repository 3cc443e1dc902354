"""UniC: a corrector around any solver."""

from dataclasses import dataclass, field

from ..plans.tape import Solver, Tape
from ..plans.vector import Vector
from ..processes.level import Level
from ..spacings.grid import Grid
from .adams import ExponentialAdams, Node
from .first_order import DDIM
from .moves import check_table


@dataclass(frozen=True)
class UniC:
    """A corrector for any solver: it repeats each step with the output at the point that the step reached.

    It costs no network call: the next step of the solver begins with the same output (PEC). The last step is
    not corrected. The order of a singlestep solver of order p becomes the smaller of p + 1 and
    ``rule.corrector``. Zhao et al. 2023 (arXiv 2302.04867, Algorithm 1).

    Args:
        solver: a singlestep solver of the probability-flow ODE. A multistep solver takes each step without
            history; use :class:`ExponentialAdams` with a corrector instead. With a stochastic
            solver, the corrected steps lose the noise.
        rule: the weights of the outputs. Its ``corrector`` is the number of outputs; its ``predictor`` is not
            used. ``tau`` must be 0.
    """

    solver: Solver = field(default_factory=DDIM)
    rule: ExponentialAdams = field(
        default_factory=lambda: ExponentialAdams(corrector=2, two_point_rule="bh2")
    )

    def __post_init__(self) -> None:
        check_table(self.solver)
        if not (isinstance(self.rule, ExponentialAdams) and self.rule.corrector) or self.rule.tau:
            raise ValueError(f"rule must have a corrector, and no tau, got {self.rule!r}")

    @property
    def order(self) -> int:
        """Of convergence, for a singlestep solver of the ODE."""
        return min(self.solver.order + 1, self.rule.corrector)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        nodes = [self.rule.node(tape, x, grid.levels[0])]
        for step in grid.singly():
            t, s = step.levels
            corrected = self.rule.stepper(tape, x, t, s, nodes[0], grid.sde)
            x = self.solver.solve(_OneStep(tape, nodes[0], x), x, step)
            if s is not grid.levels[-1]:
                nodes = [self.rule.node(tape, tape.point(x), s), *nodes][:7]
                x = corrected(nodes[: self.rule.corrector])
            x = tape.state(x)
        return x


class _OneStep(Tape):
    """A tape for one step: the output at its first point x is known, and its end is no state of the run."""

    def __init__(self, tape: Tape, node: Node, x: Vector) -> None:
        self.tape, self.node, self.x = tape, node, x

    def denoise(self, x: Vector, level: Level[float]) -> Vector:
        known = level == self.node.level and x.weights == self.x.weights
        return self.node.d if known else self.tape.denoise(x, level)

    def noise(self) -> Vector:
        return self.tape.noise()

    def point(self, x: Vector) -> Vector:
        return self.tape.point(x)

    def langevin(self, x: Vector, score: Vector, snr: float) -> Vector:
        return self.tape.langevin(x, score, snr)

    def state(self, x: Vector) -> Vector:
        return x
