"""The training loop: a generator, so that the caller decides on logging, saving and stopping."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..denoisers.network import Denoiser
from ..integer import integer
from ..registry import build
from .batches import batch_indices, check_data, select
from .data_scale import warn_about_scale
from .labels import as_labels, check_labels
from .options import TrainingOptions
from .randomness import seed_of, seeded
from .state import Progress, TrainingState, module
from .time_sampling import TIME_SAMPLINGS, LogNormal, TimeSampling, stratified
from .weighting import WEIGHTINGS, Plain, Weighting

PLAIN = Plain()


def train(
    state: TrainingState,
    x: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | None = None,
    *,
    options: TrainingOptions,
    time_sampling: TimeSampling | None = None,
    weighting: Weighting = PLAIN,
    seed: int = 0,
) -> Iterator[Progress]:
    """Minimise the denoising score matching loss: one step at every ``next``, to step ``options.steps``.

    The loss is E over x_0, t and eps of ``weighting(t) |net - target|^2`` (Vincent 2011; Song et al. 2021,
    arXiv 2011.13456, eq. 7). The times of a batch are stratified.

    Step k is a function of the state, the data and (seed, k). So a training that continues from a saved
    state gives the same bits as a training without a stop. Trainings in several threads do not change each
    other. Every step restores the global random state, which dropout draws from. During a step, other
    threads that train wait for it.

    Args:
        state: from :func:`start`; changed in place.
        x: the data, ``(N, ...)``, a tensor or an array: floats in the network's range, or uint8, whose 0..255
            becomes -1..1.
        labels: ``(N,)`` integers, for a network with ``classes``; a dropped label becomes ``classes``.
        options: number of steps, learning rate, batch size and more.
        time_sampling: distribution of the times; default, log-normal.
        weighting: factor on the loss at each level.
        seed: an integer of any size.

    Raises:
        TypeError: data or labels that are neither a tensor nor an array, such as a DataLoader; a seed that is
            not an integer.
        ValueError: an empty data set; labels that do not fit the network, are missing, or do not cover all
            classes (see ``TrainingOptions.allow_missing_classes``).
        FloatingPointError: later, ``options.max_skipped`` steps in a row had a non-finite loss or gradient.
            Those steps changed no parameter and no buffer.

    Warns:
        UserWarning: data that are never negative, such as pixels in [0, 1]; ``sigma_data`` or the mean of
            log-normal times far from the deviation of the data.
    """
    check_data(x)
    task = _Task(
        x,
        as_labels(labels),
        options,
        build("time sampling", TIME_SAMPLINGS, time_sampling or LogNormal()),
        build("weighting", WEIGHTINGS, weighting),
        integer("seed", seed),
    )
    check_labels(state.denoiser, x, task.labels, allow_missing=options.allow_missing_classes)
    warn_about_scale(x, state.denoiser.prediction, task.time_sampling, stacklevel=3)
    state.denoiser.train()

    def steps() -> Iterator[Progress]:
        while state.step < options.steps:
            yield _step(state, task)

    return steps()


class _Task(NamedTuple):
    """The arguments of a training, checked."""

    x: Tensor | np.ndarray
    labels: Tensor | None
    options: TrainingOptions
    time_sampling: TimeSampling
    weighting: Weighting
    seed: int


class _Batch(NamedTuple):
    """The arguments of a loss, and the factor on the loss of each sample."""

    x0: Tensor
    t: Tensor
    eps: Tensor
    cond: Tensor | None
    weight: Tensor


def _batch(task: _Task, denoiser: Denoiser, step: int, device: torch.device) -> _Batch:
    """The batch of a step. All times and noise come from the CPU: a device would draw other numbers."""
    generator = torch.Generator().manual_seed(seed_of(task.seed, step))
    indices = batch_indices(task.seed, step, task.options.batch_size, len(task.x))
    x0, cond = select(task.x, indices).to(device), None
    if task.labels is not None:
        cond = task.labels[indices.to(task.labels.device)].long().cpu()
        uniform = torch.rand(len(cond), generator=generator, dtype=torch.float32)
        cond = torch.where(uniform < task.options.label_dropout, denoiser.classes or 0, cond).to(device)
    u = torch.rand(len(x0), generator=generator, dtype=torch.float64)
    t, factor = task.time_sampling(denoiser.sde, stratified(u))
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float32).to(device)
    weight = (task.weighting(denoiser, denoiser.sde.level(t)) * factor).float().to(device)
    return _Batch(x0, t, eps, cond, weight)


def _step(state: TrainingState, task: _Task) -> Progress:
    net = module(state.denoiser)
    if not net.training:  # the caller drew samples after the last step
        state.denoiser.train()
    device = next(net.parameters()).device
    batch = _batch(task, state.denoiser, state.step, device)
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    state.optimizer.zero_grad()
    bf16 = task.options.precision == "bfloat16"
    with seeded(seed_of(task.seed, state.step, 1), device):  # for dropout: not the numbers of eps
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = (batch.weight * state.denoiser.loss(batch.x0, batch.t, batch.eps, batch.cond)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    return _update(state, net, loss, buffers, task.options)


def _update(
    state: TrainingState,
    net: nn.Module,
    loss: Tensor,
    buffers: Mapping[str, Tensor],
    options: TrainingOptions,
) -> Progress:
    """Change the parameters if loss and gradient are finite; otherwise restore the buffers."""
    lr = options.lr_at(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    norm = nn.utils.clip_grad_norm_(list(net.parameters()), options.clip)
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
    if state.in_row >= options.max_skipped:
        raise FloatingPointError(
            f"the loss or its gradient was not finite in {state.in_row} steps in a row, the last one "
            f"step {state.step}; lower lr or clip, or look for values that are not finite in the data"
        )
    return Progress(state.step, loss.item(), norm.item(), lr, state.skipped)
