"""The training loop: a generator, so that logging, saving and stopping are the caller's."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .. import registry
from ..denoiser import Denoiser
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

    Raises:
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

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_skipped"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
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
        return Denoiser(self.average.module, self.denoiser.sde, self.denoiser.prediction).eval()


def module(denoiser: Denoiser) -> nn.Module:
    """The network, which must be a module to be trained or saved; TypeError if it is only callable."""
    if not isinstance(denoiser.net, nn.Module):
        raise TypeError(f"only a module can be trained, got {type(denoiser.net).__name__}")
    return denoiser.net


def start(denoiser: Denoiser, schedule: Schedule) -> State:
    """The state before the first step."""
    net = module(denoiser)

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        decay = min(schedule.ema, (1 + int(n)) / (10 + int(n)))
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)

    optimizer = torch.optim.AdamW(net.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    # Parameters only: buffers, such as random frequencies, are copied.
    return State(denoiser, AveragedModel(net, multi_avg_fn=average, use_buffers=False), optimizer)


def train(
    state: State,
    x: Tensor,
    labels: Tensor | None = None,
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
    that never stopped.

    Args:
        state: from :func:`start`; changed in place.
        x: the data, ``(N, ...)``: float as the network is to see it, or uint8, whose 0..255 becomes -1..1.
        labels: ``(N,)`` integers, for a network with ``classes``; dropped ones become ``classes``.

    Raises:
        ValueError: an empty data set, or labels that do not fit.
        FloatingPointError: ``schedule.max_skipped`` steps in a row had a non-finite loss or gradient. Those
            steps changed no parameter.
    """
    times = registry.chosen("times", times or log_normal(), TIMES)
    weighting = registry.chosen("weighting", weighting, WEIGHTINGS)
    net = module(state.denoiser)
    classes = check_labels(net, x, labels)
    parameters = list(net.parameters())
    device = parameters[0].device
    net.train()
    while state.step < schedule.steps:
        draw = torch.Generator().manual_seed(_hash(seed, state.step))
        chosen = batch_indices(seed, state.step, schedule.batch_size, len(x))
        x0 = to_float(x[chosen]).to(device)
        cond = None
        if labels is not None:
            cond = labels[chosen].long()
            dropped = torch.rand(len(cond), generator=draw) < schedule.label_dropout
            cond = torch.where(dropped, classes, cond).to(device)
        u = spread(torch.rand(len(x0), generator=draw, dtype=torch.float64))
        t, factor = times(state.denoiser.sde, u)
        eps = torch.randn(x0.shape, generator=draw).to(device)
        level = state.denoiser.sde.level(t)
        weight = (weighting(state.denoiser, level) * factor).float().to(device)

        lr = schedule.lr_at(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        state.optimizer.zero_grad()
        bf16 = schedule.precision == "bfloat16"
        forked = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(forked), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            # For dropout within the network: not the numbers that eps is made of.
            _seed(device, _hash(seed, state.step, 1))
            loss = (weight * state.denoiser.loss(x0, t, eps, cond)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite:
            state.optimizer.step()
            state.average.update_parameters(net)
        state.in_row = 0 if finite else state.in_row + 1
        state.skipped += not finite
        state.step += 1
        if state.in_row >= schedule.max_skipped:
            raise FloatingPointError(
                f"the loss or its gradient was not finite in {state.in_row} steps in a row, the last one "
                f"step {state.step}; lower lr or clip, or look for values that are not finite in the data"
            )
        yield Progress(state.step, loss.item(), norm.item(), lr, state.skipped)


def check_labels(net: object, x: Tensor, labels: Tensor | None) -> int:
    """The number of classes of a network, after making sure that data and labels fit it."""
    classes = int(getattr(net, "classes", 0))
    if not len(x):
        raise ValueError("the data set is empty")
    if labels is None:
        return classes
    if labels.shape != x.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels must be {len(x)} integers, one for every sample, "
            f"got shape {tuple(labels.shape)} of {labels.dtype}"
        )
    if classes and (int(labels.min()) < 0 or int(labels.max()) >= classes):
        raise ValueError(f"labels must be in [0, {classes}), got {int(labels.min())} to {int(labels.max())}")
    if not classes:
        raise ValueError("labels were given, but the network has no classes")
    return classes


def to_float(x: Tensor) -> Tensor:
    """Pixels 0..255 as -1..1; float data as it is, in float32."""
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()


def batch_indices(seed: int, step: int, size: int, n: int) -> Tensor:
    """Indices of a step's batch: one endless walk through the data, shuffled anew in every epoch."""
    place = torch.arange(step * size, (step + 1) * size)
    epochs = range(step * size // n, ((step + 1) * size - 1) // n + 1)
    return torch.cat([_order(seed, epoch, n)[place[place // n == epoch] % n] for epoch in epochs])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(_hash(seed, -1 - epoch)))


def _seed(device: torch.device, seed: int) -> None:
    """Seed the global random state of the CPU and of one device; torch.manual_seed would seed all devices."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _hash(*numbers: int) -> int:
    """A seed for each tuple of numbers, unlike its neighbours'."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7], "little")
