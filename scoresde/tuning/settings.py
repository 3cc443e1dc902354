"""The settings of a tuning, and the budgets that they allow."""

import math
from dataclasses import dataclass

from ..integer import integer
from .candidates import STOCK_SPACINGS
from .family import GROUPS
from .teacher import MOST_CALLS

LEAST = {"samples": 2, "held_out": 2, "window": 0, "bands": 0, "starts": 1, "finalists": 1, "iterations": 0}


@dataclass(frozen=True)
class Settings:
    """The settings of a tuning.

    Args:
        samples: the number of noise samples to fit on; half as many more validate the fit. Where calls are
            cheap, take thousands: most of the mean square error comes from the few samples that end in
            another mode.
        held_out: the number of other noise samples, which decide whether the tuned table is better.
        groups: the groups of parameters that may move: ``weights``, ``scales``, ``knots``, ``first_step``.
            Without the last, there is no analytical first step.
        window: the number of past outputs that a row may use; 0 for all.
        bands: the number of bands of energies in the objective; 0 for none.
        gamma: the weight of the bands.
        robust: use the robust loss throughout; if False, add a last round of plain least squares (which alone
            finds poor minima).
        starts: the maximum number of initial tables; half are dropped after each of two short rounds.
        finalists: the maximum number of tables in the last round; the best of them is the result.
        drop_above: a table whose objective exceeds the best one's times this is dropped after a round.
        iterations: the maximum number of iterations in the last round.
        solvers: names of the stock solvers to compare; empty, all that make deterministic plans.
        spacings: names of the spacings to compare them on; a ``flow-time`` without a deviation takes that of
            the data.

    Raises:
        TypeError: a number that must be an integer is not an integer.
        ValueError: a number is out of range, or a group is unknown.
    """

    samples: int = 256
    held_out: int = 1024
    groups: tuple[str, ...] = GROUPS
    window: int = 4
    bands: int = 8
    gamma: float = 0.2
    robust: bool = True
    starts: int = 4
    finalists: int = 1
    drop_above: float = 2.0
    iterations: int = 12
    solvers: tuple[str, ...] = ()
    spacings: tuple[str, ...] = STOCK_SPACINGS

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            object.__setattr__(self, name, integer(name, getattr(self, name), least))
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and at least 0, got {self.gamma!r}")
        if not self.drop_above >= 1:
            raise ValueError(f"drop_above must be at least 1, got {self.drop_above!r}")
        if not self.groups or (unknown := set(self.groups) - set(GROUPS)):
            found = ", ".join(sorted(unknown)) if self.groups else "none"
            raise ValueError(f"groups must be some of {', '.join(GROUPS)}, got {found}")

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The numbers of noise samples to fit on, to validate with, and to decide with."""
        return self.samples, -(-self.samples // 2), self.held_out


def check_budget(nfe: int, settings: Settings) -> None:
    """Check that a table of ``nfe`` calls can be tuned with these settings.

    Raises:
        TypeError: ``nfe`` is not an integer.
        ValueError: ``nfe`` is out of range, or too large for the number of samples.
    """
    nfe = integer("nfe", nfe, 2)  # a table of one call leaves nothing to tune
    if not 4 * nfe <= MOST_CALLS:
        raise ValueError(f"nfe must be at most {MOST_CALLS // 4}, a part of the teacher's calls, got {nfe}")
    window = settings.window or nfe
    parameters = sum(min(window, i + 1) for i in range(nfe)) + 2 * nfe + 2
    if not settings.samples > parameters:
        raise ValueError(
            f"{settings.samples} samples cannot decide up to {parameters} parameters; ask for more samples, "
            f"best ten times as many as parameters"
        )
