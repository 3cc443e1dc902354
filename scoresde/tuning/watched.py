"""A denoiser whose evaluations are counted and shown, and how many of them a tuning will take."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..processes.level import Level
from ..processes.sde import SDE
from .settings import Settings

TRIALS = 4  # of the dampings, in an iteration


class Bar:
    """A progress bar of network evaluations, over phases of which each is expected to take so many.

    ``bar`` is one of tqdm's. How often a teacher is doubled and how many steps a fit tries is not known
    before, so that the total is corrected whenever a phase begins, and when one takes longer.
    """

    def __init__(self, bar: Any) -> None:
        self.bar, self.expected = bar, dict[str, int]()

    def expect(self, phases: Mapping[str, int]) -> None:
        """What is to come."""
        self.expected = dict(phases)
        self._aim()

    def begin(self, phase: str) -> None:
        """Show a phase; those listed before it take no more."""
        names = list(self.expected)
        for name in names[: names.index(phase)]:
            self.expected[name] = 0
        self.says(phase)
        self._aim()

    def says(self, what: str) -> None:
        """Show what is being done."""
        self.bar.set_description_str(what, refresh=False)

    def update(self, count: int) -> None:
        """So many evaluations more."""
        self.bar.total = max(self.bar.total or 0, self.bar.n + count)
        self.bar.update(count)

    def done(self) -> None:
        """Nothing more will come."""
        self.expected = {}
        self._aim()
        self.bar.refresh()

    def _aim(self) -> None:
        self.bar.total = self.bar.n + sum(self.expected.values())


class Watched:
    """A denoiser whose evaluations are counted, and shown on a bar."""

    def __init__(self, denoiser: DenoiserLike, bar: Bar) -> None:
        self.denoiser, self.bar, self.count = denoiser, bar, 0

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        self.count += len(x)
        self.bar.update(len(x))
        return self.denoiser(x, level, cond)


def expected(nfe: int, settings: Settings, entrants: int) -> dict[str, int]:
    """Evaluations of each phase of a tuning, roughly, as most take.

    Of a teacher that need not be doubled; of entrants and starts that run on 32 noises each; of a fit in
    which half of the starts go on after the first heat, and one after the second.
    """
    train, valid, test = settings.samples, -(-settings.samples // 2), settings.held_out
    part, most, left = max(64, train // 4), settings.iterations, min(entrants, 27)
    derivatives = nfe * nfe + nfe + min(settings.window or nfe, nfe) * nfe * (nfe - 1) // 2
    heats = [(part, settings.starts, min(most, 4)), (2 * part, -(-settings.starts // 2), min(most, 4))]
    heats += [(train, settings.finalists, most)] * (1 if settings.robust else 2)
    steps = [
        starts * iterations * (derivatives * part + nfe * (TRIALS * noises + valid))
        for noises, starts, iterations in heats
    ]
    return {
        "teacher": 32 * (3 * (train + valid) + test + nfe * entrants),
        "race": nfe * (7 * 28 * left + min(left, 8) * min(train, 256)),
        "fit": sum(steps) + nfe * settings.starts * (train + valid),
        "held-out noises": nfe * 2 * test + 2 * nfe * 10 * 64,
    }
