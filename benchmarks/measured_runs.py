"""The default levels, and levels measured on a network."""

from collections.abc import Sequence

from lines import on_stderr
from torch import Tensor

from scoresde.denoisers.protocol import DenoiserLike
from scoresde.spacings import FlowTime, Measured

DEFAULT = FlowTime()  # equal steps in the square root of flow time, c = 1
SEED = 1  # of the measurement: other noises than those of the runs


def measured_levels(
    denoiser: DenoiserLike,
    shape: Sequence[int],
    budgets: Sequence[int],
    cond: Tensor | None = None,
    progress: bool = False,
) -> Measured | None:
    """The levels measured on a network for these budgets; None where this version cannot measure."""
    try:
        from scoresde.tuning.measured_levels import measured
    except ImportError:
        on_stderr("levels.py: scoresde.tuning.measured_levels is missing, so nothing is measured")
        return None
    found: Measured = measured(
        denoiser, shape, budgets=tuple(budgets), cond=cond, seed=SEED, progress=progress
    )
    return found
