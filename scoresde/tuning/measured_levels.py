"""Levels measured on a network: a pilot finds where they belong, a race decides for each budget."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.conditions import Condition
from ..denoisers.protocol import Counted, DenoiserLike, Watched, as_denoiser
from ..devices import exact
from ..integer import integer
from ..plans.fingerprint import fingerprint
from ..plans.plan import Plan
from ..solvers.auto import VELOCITY
from ..spacings.measured import Choice, Measured, ends_of
from .pairs import Pairs, ends, initial_pairs, joined, squared_errors, with_ends
from .pilot import COARSE, FINE, USUAL, accurate_plan, run_pilot
from .race import COST, ELSEWHERE, SOLVERS, Entry, race
from .table import Numbers
from .task import check_network, variance_of

BUDGETS = (5, 8, 10, 20, 50)
NOISES = 32  # of the pilot
PRICE = 60  # network calls for the exact end of a further noise
SEED = 0x6C65_7665_6C73_0000  # so that a measurement shares no noise with sample() at a seed below 2^32


@torch.no_grad()
def measured(
    denoiser: DenoiserLike,
    shape: Sequence[int],
    *,
    budgets: Sequence[int] = BUDGETS,
    cond: Condition = None,
    seed: int = 0,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
) -> Measured:
    """Measure where the levels of a network belong, and which solver to use, for each budget of calls.

    1. A pilot: 32 noises run in 20 calls, and again in 100 calls on the levels that the first run measured
       (:mod:`scoresde.tuning.pilot`). It costs 3,840 evaluations.
    2. A race for each budget: levels of equal errors along the pilot's paths, by differences of order 1, 2
       and 3, and powers of flow time (:class:`scoresde.spacings.FlowTime`), each with the solvers that fit
       the budget, run from the same noises. The one with the smallest errors to the fine run is chosen
       (:mod:`scoresde.tuning.race`). It costs at most 15,000 evaluations for each budget.

    Args:
        denoiser: the network to sample from, in eval mode.
        shape: of one sample.
        budgets: numbers of calls, from 2 to 50; other budgets use the nearest.
        cond: conditions ``(K, ...)``, in the proportions that are to be sampled; noise i has condition i mod
            K.
        seed: of the noise.
        batch_size: samples in one network call.
        device: of the state.
        dtype: of the state, float32 or float64.
        progress: show a progress bar of network evaluations.

    Raises:
        TypeError: a budget that is not an integer.
        ValueError: no budget, or one out of range; a network in training mode, or one that is not
            deterministic.
        FloatingPointError: the output of the network is not finite.
    """
    most = SOLVERS[-1][0]
    budgets = sorted({integer("budgets", one, 2) for one in budgets})
    if not budgets or budgets[-1] > most:
        raise ValueError(f"budgets must be numbers of calls from 2 to {most}, got {budgets}")
    denoiser = as_denoiser(denoiser)
    seed = integer("seed", seed)

    def pairs(ids: Tensor) -> Pairs:
        return initial_pairs(denoiser.sde, tuple(shape), cond, seed + SEED, ids, device, dtype)

    with tqdm(desc="pilot", unit="evaluation", disable=not progress) as bar:
        counted = Counted(Watched(denoiser, lambda x, *_: bar.update(len(x))))
        bar.total = NOISES * (COARSE + FINE) + len(budgets) * COST
        measurement = _Measurement(counted, pairs, batch_size)
        made = []
        for calls in budgets:
            bar.set_description(f"{calls} calls")
            made.append(measurement.choose(calls))
        bar.total = bar.n
    choices = tuple(choice for choice, _ in made)
    about: dict[str, Any] = {**fingerprint(denoiser), "seed": seed, "evaluations": counted.evaluations}
    about["budgets"] = {str(choice.calls): errors for choice, errors in made}
    return Measured(type(denoiser.sde).__name__, ends_of(denoiser.sde), choices, about)


class _Measurement:
    """A pilot, and the races on its noises and on further ones, whose exact ends are found when needed."""

    def __init__(self, denoiser: DenoiserLike, pairs: Callable[[Tensor], Pairs], batch_size: int) -> None:
        self.denoiser, self.initial, self.batch_size = denoiser, pairs, batch_size
        first = pairs(torch.arange(NOISES))
        check_network(denoiser, first.x, first.cond)
        self.pilot = run_pilot(denoiser, first, batch_size)
        self.pairs = self.pilot.pairs
        self.spread = math.sqrt(variance_of(exact(self.pairs.target)))

    def choose(self, calls: int) -> tuple[Choice, dict[str, Any]]:
        """The winner of the race for a number of calls, and its errors."""
        best, errors = race(self.pilot, calls, partial(self._errors, calls), PRICE)
        about = {
            "levels": best.levels,
            "samples": len(errors),
            "median": float(np.median(errors)),
            "rmse": float(np.sqrt(np.square(errors).mean())),
            "elsewhere": float((errors > ELSEWHERE).mean()),
        }
        return Choice(calls, best.solver, best.spacing), about

    def _errors(self, calls: int, entry: Entry, first: int, last: int) -> Numbers:
        """The errors of samples ``first`` to ``last``: distances from the exact ends, over their spread."""
        if last > len(self.pairs):
            exact_run = accurate_plan(self.denoiser.sde, self.pilot.levels(*USUAL), PRICE)
            more = self.initial(torch.arange(len(self.pairs), last))
            self.pairs = joined(self.pairs, with_ends(self.denoiser, exact_run, more, self.batch_size))
        plan = Plan.within(calls, VELOCITY[entry.solver], self.denoiser.sde, entry.spacing)
        part = self.pairs[first:last]
        reached = ends(self.denoiser, plan, part, self.batch_size)
        squares = exact(squared_errors(reached, part.target)).cpu().numpy()
        errors: Numbers = np.sqrt(np.where(np.isfinite(squares), squares, 1e30)) / self.spread
        return errors
