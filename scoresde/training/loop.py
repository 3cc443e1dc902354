"""The training loop: a generator, so that logging, saving and stopping are the caller's."""

from collections.abc import Iterator, Mapping
from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn

from ..registry import build
from .batches import batch_indices, check_data, chosen, warn_of_scale
from .labels import as_labels, check_labels, classes_of
from .options import Schedule
from .randomness import seed_of, seeded
from .state import Progress, State, module
from .times import TIMES, LogNormal, Times, spread
from .weighting import WEIGHTINGS, Plain, Weighting

PLAIN = Plain()


def train(
    state: State,
    x: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    *,
    schedule: Schedule,
    times: Times | None = None,
    weighting: Weighting = PLAIN,
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
    times = build("times", TIMES, times or LogNormal())
    weighting = build("weighting", WEIGHTINGS, weighting)
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
