"""Options of a training run."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..integer import integer

DECAYS = ("cosine", "linear", "constant")


PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and how carefully to train.

    Args:
        steps: number of optimiser steps.
        batch_size: samples a step.
        lr: learning rate of AdamW after warm-up.
        warmup: steps over which the learning rate rises linearly from 0.
        decay: "cosine" to 0 at the last step, "linear", or "constant".
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the parameters, which begins as they are after the first step;
            min(ema, (1 + n) / (10 + n)) at its n-th update from then on.
        label_dropout: share of the samples whose label is replaced by *no class*.
        precision: of the network, by autocast; the loss and the weights stay in float32.
        max_skipped: steps in a row with a non-finite loss or gradient, skipped, before training stops.
        allow_missing_classes: labels need not cover the network's classes. A class that was not trained is
            not to be asked for.

    Raises:
        TypeError: a count that is no integer.
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
        """Learning rate of a step, 0 the first."""
        left = (self.steps - step) / self.steps
        factor = {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left, "constant": 1.0}[self.decay]
        return self.lr * min(1.0, (step + 1) / (self.warmup + 1)) * factor
