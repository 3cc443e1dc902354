"""The state of a training run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..denoisers.network import Denoiser
from ..denoisers.unwrapped import unwrapped
from .options import TrainingOptions


class Progress(NamedTuple):
    """The figures of one step."""

    step: int  # counted from 1
    loss: float
    grad_norm: float
    lr: float
    skipped: int  # steps skipped so far


@dataclass
class TrainingState:
    """Everything that changes during training. A checkpoint holds its tensors and its counts."""

    denoiser: Denoiser
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    skipped: int = 0
    in_row: int = 0  # steps skipped since the last one that was not

    @property
    def averaged(self) -> Denoiser:
        """The denoiser to sample from, with the averaged parameters, in eval mode; it shares their memory."""
        trained = self.denoiser
        return Denoiser(self.average.module, trained.sde, trained.prediction, dtype=trained.dtype).eval()


def module(denoiser: Denoiser) -> nn.Module:
    """The network without wrappers; TypeError unless it is a module."""
    net = unwrapped(denoiser.net)
    if not isinstance(net, nn.Module):
        raise TypeError(f"only a module can be trained, got {type(net).__name__}")
    return net


def start(denoiser: Denoiser, options: TrainingOptions) -> TrainingState:
    """The state before the first step.

    The network may be wrapped by ``torch.compile``, DataParallel or DistributedDataParallel. The average, and
    so the saved network, is without the wrapper.

    Args:
        denoiser: trained in place; its network is a module.
        options: of the optimiser and the moving average.

    Raises:
        TypeError: not a Denoiser, or a network that is not a module.
        ValueError: weights in float16.
    """
    if not isinstance(denoiser, Denoiser):
        raise TypeError(f"only a Denoiser can be trained, got {type(denoiser).__name__}")
    net = module(denoiser)
    if any(parameter.dtype == torch.float16 for parameter in net.parameters()):
        raise ValueError(
            "weights must not be float16, where the squares of most gradients are 0; train them in float32, "
            "and with the option precision = 'bfloat16' for speed"
        )

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        decay = min(options.ema, (1 + int(n)) / (10 + int(n)))
        get_ema_multi_avg_fn(decay)(averaged, current, n)  # type: ignore[no-untyped-call]

    optimizer = torch.optim.AdamW(net.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    # Only parameters are averaged: buffers, such as random frequencies, are copied.
    return TrainingState(denoiser, AveragedModel(net, multi_avg_fn=average, use_buffers=False), optimizer)
