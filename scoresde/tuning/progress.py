"""The network evaluations of a tuning: counted, shown on a bar, and estimated beforehand."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..processes.level import Level
from .settings import Settings

TRIALS = 4  # dampings tried in an iteration, typically


class Progress:
    """Counts network evaluations, and shows them on a bar, phase by phase.

    The total is an estimate: how often the teacher is doubled and how many steps a fit tries is not known
    beforehand. It is corrected at the start of each phase, and when a phase takes longer.

    Args:
        bar: a bar of tqdm.
    """

    def __init__(self, bar: Any) -> None:
        self.bar, self.evaluations, self.expected = bar, 0, dict[str, int]()

    def expect(self, phases: Mapping[str, int]) -> None:
        """Set the phases to come, in order, with their expected evaluations."""
        self.expected = dict(phases)
        self._set_total()

    def begin(self, phase: str) -> None:
        """Begin a phase; the phases before it have ended."""
        names = list(self.expected)
        for name in names[: names.index(phase)]:
            self.expected[name] = 0
        self.describe(phase)
        self._set_total()

    def describe(self, text: str) -> None:
        """Show a description."""
        self.bar.set_description_str(text, refresh=False)

    def observe(self, x: Tensor, level: Level[Any], estimate: Tensor) -> None:
        """Count a network call: one evaluation for each sample."""
        self.evaluations += len(x)
        self.bar.total = max(self.bar.total or 0, self.bar.n + len(x))
        self.bar.update(len(x))

    def end(self) -> None:
        """End the last phase."""
        self.expected = {}
        self._set_total()
        self.bar.refresh()

    def _set_total(self) -> None:
        self.bar.total = self.bar.n + sum(self.expected.values())


def expected_evaluations(nfe: int, settings: Settings, candidates: int) -> dict[str, int]:
    """A rough estimate of the evaluations of each phase.

    It assumes a teacher that is not doubled; candidates that run on 32 noise samples each; and a fit in which
    half of the tables remain after the first round, and the finalists after the second.
    """
    train, valid, test = settings.sizes
    part, most, remaining = max(64, train // 4), settings.iterations, min(candidates, 27)
    derivatives = nfe * nfe + nfe + min(settings.window or nfe, nfe) * nfe * (nfe - 1) // 2
    rounds = [(part, settings.starts, min(most, 4)), (2 * part, -(-settings.starts // 2), min(most, 4))]
    rounds += [(train, settings.finalists, most)] * (1 if settings.robust else 2)
    steps = [
        starts * iterations * (derivatives * part + nfe * (TRIALS * samples + valid))
        for samples, starts, iterations in rounds
    ]
    return {
        "teacher": 32 * (3 * (train + valid) + test + nfe * candidates),
        "screening": nfe * (7 * 28 * remaining + min(remaining, 8) * min(train, 256)),
        "fit": sum(steps) + nfe * settings.starts * (train + valid),
        "held-out samples": nfe * 2 * test + 2 * nfe * 10 * 64,
    }
