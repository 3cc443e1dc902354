"""Options of a training run, and of the measurement of levels at its end."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..integer import integer

DECAYS = ("cosine", "linear", "constant")
PRECISIONS = ("float32", "bfloat16")
MOST = 50  # network calls for which levels are measured


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training run: AdamW, the learning rate of each step, and the moving average.

    Args:
        steps: number of steps of the optimiser, at least 1.
        batch_size: samples of a step, at least 1.
        lr: largest learning rate of AdamW, positive; see :meth:`lr_at`.
        warmup: number of steps over which the learning rate rises linearly from 0.
        decay: of the learning rate: "cosine" or "linear", to 0 at the last step, or "constant".
        weight_decay: of AdamW, at least 0.
        clip: largest norm of the gradient, positive.
        ema: decay of the moving average of the parameters, in [0, 1). The average starts with the parameters
            after the first step; its n-th update after that has the decay min(ema, (1 + n) / (10 + n)).
        label_dropout: probability that a label is replaced by the label of no class, in [0, 1].
        precision: of the network, by autocast, "float32" or "bfloat16"; loss and weights stay in float32.
        max_skipped: a step with a non-finite loss or gradient is skipped; after so many in a row, at least 1,
            training stops.
        allow_missing_classes: accept data without samples of some classes. Do not sample from such a class.

    Raises:
        TypeError: a count that is not an integer.
        ValueError: a number outside its range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    steps: int = 10_000
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 200
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    label_dropout: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"
    max_skipped: int = 10
    allow_missing_classes: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_skipped"):
            object.__setattr__(self, name, integer(name, getattr(self, name), 1))
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout must be in [0, 1], got {self.label_dropout}")
        for name, allowed in (("decay", DECAYS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def lr_at(self, step: int) -> float:
        """The learning rate of a step; the first step is 0."""
        left = (self.steps - step) / self.steps
        factor = {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left, "constant": 1.0}[self.decay]
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1)) * factor


@dataclass(frozen=True)
class LevelOptions:
    """Options of the measurement of levels after a training run (:func:`scoresde.tuning.measured`).

    Args:
        budgets: numbers of network calls, from 2 to 50, to find levels and a solver for; none, to measure
            nothing.

    Raises:
        TypeError: a budget that is not an integer.
        ValueError: a budget out of range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    budgets: tuple[int, ...] = (5, 8, 10, 20, 50)

    def __post_init__(self) -> None:
        budgets = sorted({integer("budgets", one, 2) for one in self.budgets})
        if budgets and budgets[-1] > MOST:
            raise ValueError(f"budgets must be at most {MOST}, got {budgets[-1]}")
        object.__setattr__(self, "budgets", tuple(budgets))
