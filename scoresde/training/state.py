"""The state of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..denoisers.network import Denoiser
from ..denoisers.unwrapped import unwrapped
from .options import Schedule


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
