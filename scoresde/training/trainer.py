"""The training loop: a generator, so that logging, saving and stopping are the caller's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .. import registry
from ..denoiser import Denoiser, unwrapped
from ..integer import integer
from .batches import batch_indices, check_data, chosen, warn_of_scale
from .labels import as_labels, check_labels, classes_of
from .randomness import seed_of, seeded
from .times import TIMES, Times, log_normal, spread
from .weighting import WEIGHTINGS, Weighting, plain

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


class Progress(NamedTuple):
    """What one step came to."""

    step: int  # counted from 1
    loss: float
    grad_norm: float
    lr: float
    skipped: int  # steps skipped so far


@dataclass
class State:
    """All that changes during training; its tensors and ``step`` are what a checkpoint holds."""

    denoiser: Denoiser
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    skipped: int = 0
    in_row: int = 0

    @property
    def averaged(self) -> Denoiser:
        """The denoiser to sample from, with the averaged parameters; it shares their memory."""
        own = self.denoiser
        return Denoiser(self.average.module, own.sde, own.prediction, dtype=own.dtype).eval()


def module(denoiser: Denoiser) -> nn.Module:
    """The network without wrappers, for its weights; TypeError if it is no module but only callable."""
    net = unwrapped(denoiser.net)
    if not isinstance(net, nn.Module):
        raise TypeError(f"only a module can be trained, got {type(net).__name__}")
    return net


def start(denoiser: Denoiser, schedule: Schedule) -> State:
    """The state before the first step.

    ``torch.compile(net)``, DataParallel and DistributedDataParallel are trained as they are; the average, and
    so what is saved, is of the network within.
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"only a Denoiser can be trained, got {type(denoiser).__name__}")
    net = module(denoiser)
    if any(parameter.dtype == torch.float16 for parameter in net.parameters()):
        raise ValueError(
            "weights in float16 cannot be trained, for the squares of most gradients are 0 there; train them "
            "in float32, with precision = 'bfloat16' in the schedule if it is to be fast"
        )

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        decay = min(schedule.ema, (1 + int(n)) / (10 + int(n)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)

    optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    # Parameters only: buffers, such as random frequencies, are copied.
    return State(denoiser, AveragedModel(net, multi_avg_fn=average, use_buffers=False), optimizer)


def train(
    state: State,
    x: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    *,
    schedule: Schedule,
    times: Times | None = None,
    weighting: Weighting = plain,
    seed: int = 0,
) -> Iterator[Progress]:
    """Minimise the denoising score matching loss, a step at every ``next``, to ``schedule.steps``.

    E over x_0, t and eps of ``weighting(t) |net - target|^2`` (Vincent 2011; Song et al. 2021, arXiv
    2011.13456, eq. 7), t by ``times`` on numbers spread evenly over the batch. Everything random in step k is
    a function of (seed, k) alone, so training that goes on from a saved ``state`` gives the bits of training
    that never stopped, and training in several threads those of each alone. The global random state, from
    which dropout draws, is as it was after every step; within one, other threads that train wait for it.

    Args:
        state: from :func:`start`; changed in place.
        x: the data, ``(N, ...)``, a tensor or an array: floats as the network is to see them, or uint8, whose
            0..255 becomes -1..1.
        labels: ``(N,)`` integers, for a network with ``classes``; dropped ones become ``classes``.
        schedule: how long and how carefully.
        times: at which times; default, log-normal.
        weighting: of the loss.
        seed: an integer of any size.

    Raises:
        TypeError: data or labels that are no tensor and no array, such as a DataLoader.
        ValueError: an empty data set; labels that do not fit, are missing, or do not cover all classes (see
            ``Schedule.allow_missing_classes``).
        FloatingPointError: later, ``schedule.max_skipped`` steps in a row had a non-finite loss or gradient.
            Those steps changed no parameter and no buffer.

    Warns:
        UserWarning: data that are never negative, such as pixels in [0, 1]; ``sigma_data`` or the mean of
            log-normal times far from their deviation.
    """
    if not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    check_data(x)
    labels = as_labels(labels)
    times = registry.chosen("times", times or log_normal(), TIMES)
    weighting = registry.chosen("weighting", weighting, WEIGHTINGS)
    check_labels(module(state.denoiser), x, labels, allow_missing=schedule.allow_missing_classes)
    warn_of_scale(x, state.denoiser.prediction, times, stacklevel=3)
    state.denoiser.train()

    def steps() -> Iterator[Progress]:
        while state.step < schedule.steps:
            yield _step(state, x, labels, schedule, times, weighting, int(seed))

    return steps()


def _step(
    state: State,
    x: Tensor | np.ndarray,
    labels: Tensor | None,
    schedule: Schedule,
    times: Times,
    weighting: Weighting,
    seed: int,
) -> Progress:
    net = module(state.denoiser)
    if not net.training:  # the caller drew samples in between
        state.denoiser.train()
    device = next(net.parameters()).device
    draw = torch.Generator().manual_seed(seed_of(seed, state.step))
    indices = batch_indices(seed, state.step, schedule.batch_size, len(x))
    x0, cond = chosen(x, indices).to(device), None
    if labels is not None:
        cond = labels[indices.to(labels.device)].long().cpu()
        dropped = torch.rand(len(cond), generator=draw, dtype=torch.float32) < schedule.label_dropout
        cond = torch.where(dropped, classes_of(net), cond).to(device)
    t, factor = times(state.denoiser.sde, spread(torch.rand(len(x0), generator=draw, dtype=torch.float64)))
    eps = torch.randn(x0.shape, generator=draw, dtype=torch.float32).to(device)
    weight = (weighting(state.denoiser, state.denoiser.sde.level(t)) * factor).float().to(device)

    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state.optimizer.zero_grad()
    bf16 = schedule.precision == "bfloat16"
    with seeded(seed_of(seed, state.step, 1), device):  # for dropout: not the numbers that eps is made of
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = (weight * state.denoiser.loss(x0, t, eps, cond)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return _update(state, net, loss, buffers, schedule)


def _update(
    state: State, net: nn.Module, loss: Tensor, buffers: Mapping[str, Tensor], schedule: Schedule
) -> Progress:
    """Take the step of a loss if it is finite, and otherwise take back what it did to the buffers."""
    lr = schedule.lr_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    norm = nn.utils.clip_grad_norm_(list(net.parameters()), schedule.clip)
    finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
    if finite:
        state.optimizer.step()
        state.average.update_parameters(net)
    else:
        for name, buffer in net.named_buffers():
            if name in buffers and not torch.equal(buffer, buffers[name]):
                buffer.copy_(buffers[name])
    state.in_row = 0 if finite else state.in_row + 1
    state.skipped += not finite
    state.step += 1
    if state.in_row >= schedule.max_skipped:
        raise FloatingPointError(
            f"the loss or its gradient was not finite in {state.in_row} steps in a row, the last one "
            f"step {state.step}; lower lr or clip, or look for values that are not finite in the data"
        )
    return Progress(state.step, loss.item(), norm.item(), lr, state.skipped)
