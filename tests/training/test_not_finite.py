"""Steps whose loss or gradient is not finite."""

import math

import pytest
import torch
from torch import nn
from training_runs import gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm
from scoresde.processes.continuous import EDM
from scoresde.training import TrainingOptions, start, train


class Failing(nn.Module):
    """Returns NaN, or a gradient that is NaN, in the calls whose numbers (from 1) are listed."""

    def __init__(self, bad, kind="loss"):
        super().__init__()
        self.bad, self.kind, self.calls = bad, kind, 0
        self.weight = nn.Parameter(torch.full((2,), 0.1))

    def forward(self, x, t):
        self.calls += 1
        out = self.weight * x
        if self.calls not in self.bad:
            return out
        # sqrt has an infinite slope at 0: a finite loss whose gradient is not.
        return out * math.nan if self.kind == "loss" else out + torch.sqrt(0 * self.weight)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(kind):
    net = Failing({4, 5, 9}, kind)
    options = TrainingOptions(steps=12, batch_size=16, warmup=0, max_skipped=3, ema=0.5)
    state = start(Denoiser(net, EDM(), edm()), options)
    before, skipped = None, []
    for p in train(state, gaussian(64), options=options):
        now = [net.weight.detach().clone(), state.average.module.weight.detach().clone()]
        if p.step in (4, 5, 9):
            assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))
            assert math.isfinite(p.loss) == (kind == "gradient")
            assert not math.isfinite(p.grad_norm)
        elif before is not None:
            assert not torch.equal(now[0], before[0])
        assert all(torch.isfinite(value).all() for value in now)
        before = now
        skipped.append(p.skipped)
    assert skipped == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert state.average.n_averaged.item() == 9
    assert (state.step, state.skipped, state.in_row) == (12, 3, 0)


class Normed(Failing):
    """The same behind a batch normalisation, and with a buffer that is replaced at every step."""

    def __init__(self, bad):
        super().__init__(bad)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x, t):
        self.count = self.count + 1
        return super().forward(self.norm(x * (math.nan if self.calls + 1 in self.bad else 1)), t)


def test_a_step_that_is_not_finite_changes_no_buffer():
    net = Normed({1, 4, 5})
    options = TrainingOptions(steps=6, batch_size=16, warmup=0, max_skipped=3)
    state = start(Denoiser(net, EDM(), edm()), options)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    for p in train(state, gaussian(64), options=options):
        now = {name: buffer.clone() for name, buffer in net.named_buffers()}
        kept = [torch.equal(now[name], before[name]) for name in before]
        assert all(kept) if p.step in (1, 4, 5) else not any(kept)
        before = now
    assert net.count.item() == net.norm.num_batches_tracked.item() == 3
    assert all(torch.isfinite(buffer).all() for buffer in state.average.buffers())


def test_training_stops_after_so_many_steps_in_a_row_and_says_why():
    net = Failing({3, 5, 6, 7, 8})
    options = TrainingOptions(steps=20, batch_size=16, max_skipped=4)
    state = start(Denoiser(net, EDM(), edm()), options)
    match = "not finite in 4 steps in a row, the last one step 8; lower lr"
    with pytest.raises(FloatingPointError, match=match):
        list(train(state, gaussian(64), options=options))
    assert (state.step, state.skipped) == (8, 5)
    assert torch.isfinite(net.weight).all()


def test_data_that_is_not_finite_stops_training_too():
    x = gaussian(64)
    x[:, 0] = math.nan
    with pytest.raises(FloatingPointError, match="look for values that are not finite in the data"):
        run(mlp(), EDM(), edm(), x, max_skipped=3)
