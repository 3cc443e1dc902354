"""How a table is tuned, and which budgets it can be tuned for."""

import math
from dataclasses import dataclass

from .family import GROUPS
from .race import SPACINGS
from .teacher import MOST_CALLS


@dataclass(frozen=True)
class Settings:
    """How a table is tuned.

    Args:
        samples: noises of the fit; half as many more validate it, and ``held_out`` decide. Where calls are
            cheap, thousands are better: the few that change mode make most of the mean square error.
        groups: the parameters that may move: ``weights``, ``scales``, ``knots``, ``free``; without the last,
            there is no free first step.
        window: of past outputs; 0, all.
        bands: number of the bands of energies; 0 for none.
        gamma: weight of the bands.
        robust: whether samples that cannot be followed count less to the end; if not, they do until a last
            heat more, for their sum alone has many poor minima.
        starts: of the fit, at most; after a few iterations the better half of them goes on, twice.
        finalists: starts that go to the last heat, at most; the best after it is the result.
        iterations: of the last heat of the fit, at most.
        solvers: names of those that race; none, all that make deterministic plans.
        spacings: names of those that race.

    Raises:
        ValueError: a number below what it can be, or an unknown group.
    """

    samples: int = 256
    held_out: int = 1024
    groups: tuple[str, ...] = ("weights", "scales", "knots", "free")
    window: int = 4
    bands: int = 8
    gamma: float = 0.2
    robust: bool = True
    starts: int = 4
    finalists: int = 1
    iterations: int = 12
    solvers: tuple[str, ...] = ()
    spacings: tuple[str, ...] = SPACINGS

    def __post_init__(self) -> None:
        least = {
            **{"samples": 2, "held_out": 2, "window": 0, "bands": 0},
            **{"starts": 1, "finalists": 1, "iterations": 0},
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise ValueError(f"{name} must be an integer of at least {bound}, got {value!r}")
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and not negative, got {self.gamma!r}")
        if not self.groups or (unknown := set(self.groups) - set(GROUPS)):
            what = ", ".join(sorted(unknown)) if self.groups else "none"
            raise ValueError(f"groups must be some of {', '.join(GROUPS)}, got {what}")


def check_budget(nfe: int, settings: Settings) -> None:
    """ValueError if a table of ``nfe`` calls cannot be tuned so."""
    if not isinstance(nfe, int) or isinstance(nfe, bool) or nfe < 2:
        raise ValueError(f"nfe must be an integer of at least 2, got {nfe!r}; of one call there is no choice")
    if not 4 * nfe <= MOST_CALLS:
        raise ValueError(f"nfe must be at most {MOST_CALLS // 4}, a part of the teacher's calls, got {nfe}")
    window = settings.window or nfe
    parameters = sum(min(window, i + 1) for i in range(nfe)) + 2 * nfe + 2
    if not settings.samples > parameters:
        raise ValueError(
            f"{settings.samples} samples cannot decide up to {parameters} parameters; ask for more samples, "
            f"best ten times as many as parameters"
        )
