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
    """A corrector on any solver: its steps, each taken again with the output at the point it reached.

    ``rule`` weighs the outputs, of which its ``corrector`` counts; its predictor is not used. No network call
    more: the output at the point is the one that the solver begins its next step with (PEC). The ``solver``
    takes each step by itself, without the history that a multistep method would have: for those, give
    :class:`ExponentialAdams` a corrector. The order of a solver of order p becomes the smaller of p + 1 and
    ``rule.corrector``. Zhao et al. 2023 (arXiv 2302.04867, Algorithm 1).
    """

    solver: Solver = field(default_factory=DDIM)
    rule: ExponentialAdams = field(default_factory=lambda: ExponentialAdams(corrector=2, two="bh2"))

    def __post_init__(self) -> None:
        check_table(self.solver)
        if not (isinstance(self.rule, ExponentialAdams) and self.rule.corrector) or self.rule.tau:
            raise ValueError(f"rule must have a corrector, and no tau, got {self.rule!r}")

    @property
    def order(self) -> int:
        """Of convergence."""
        return min(self.solver.order + 1, self.rule.corrector)

    def solve(self, tape: Tape, x: Vector, grid: Grid) -> Vector:
        nodes = [self.rule._node(tape, x, grid.levels[0])]
        for step in grid.singly():
            t, s = step.levels
            rule = self.rule._step(tape, x, t, s, nodes[0], grid.sde)
            x = self.solver.solve(_Told(tape, nodes[0], x), x, step)
            if s is not grid.levels[-1]:
                nodes = [self.rule._node(tape, tape.point(x), s), *nodes][:7]
                x = rule(nodes[: self.rule.corrector])
            x = tape.state(x)
        return x


class _Told(Tape):
    """A tape for one step: the output at its beginning, the point x, is at hand, and its end is no state."""

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
