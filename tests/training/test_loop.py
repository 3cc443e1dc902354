"""The loop: what a run is a function of, its learning rate and its gradients."""

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import Dropping, dropping, equal_states, gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm
from scoresde.processes.continuous import EDM
from scoresde.training import TrainingOptions, start, train
from scoresde.training.randomness import seeded
from scoresde.training.time_sampling import Uniform


def test_training_neither_reads_nor_changes_the_global_random_state():
    states, runs = [], []
    for seed in (1, 2):
        net = dropping()
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        state, progress = run(net, EDM(), edm(), gaussian(64))
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state)
        runs.append(progress)
    assert runs[0] == runs[1]
    assert equal_states(*states)


def test_the_seed_decides_the_run():
    losses = {
        tuple(p.loss for p in run(dropping(), EDM(), edm(), gaussian(64), seed=seed)[1]) for seed in (0, 1, 0)
    }
    assert len(losses) == 2


class Drawing(nn.Module):
    """Draws from the global random state, as dropout does, and records its inputs."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x, t):
        self.seen.append((x, t, torch.rand(len(x), dtype=torch.float64)))
        return self.weight * x


def test_every_step_draws_anew_for_the_data_and_for_the_network():
    net = Drawing()
    run(net, EDM(), edm(), torch.zeros(64, 2), steps=3)
    for later, earlier in ((1, 0), (2, 1), (2, 0)):
        assert not any(torch.equal(a, b) for a, b in zip(net.seen[later], net.seen[earlier], strict=True))


def test_a_network_does_not_draw_the_numbers_that_its_noise_and_times_are_made_of():
    net, uniforms = Drawing(), []

    def time_sampling(sde, u):
        uniforms.append(u)
        return Uniform()(sde, u)

    run(net, EDM(), edm(), torch.zeros(64, 2), steps=3, time_sampling=time_sampling)
    for u, (_, _, drawn) in zip(uniforms, net.seen, strict=True):
        assert not torch.isin(u, drawn).any()


def test_going_on_from_a_state_is_never_having_stopped():
    x, options = gaussian(64), TrainingOptions(steps=20, batch_size=16, warmup=5)
    straight, stopped = (start(Denoiser(dropping(), EDM(), edm()), options) for _ in range(2))
    losses = [p.loss for p in train(straight, x, options=options)]
    first = [p.loss for p in islice(train(stopped, x, options=options), 7)]
    rest = list(train(stopped, x, options=options))
    assert first + [p.loss for p in rest] == losses
    assert [p.step for p in rest] == list(range(8, 21))
    assert equal_states(straight, stopped)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_and_falls_as_scheduled(decay):
    options = {"steps": 40, "warmup": 10, "decay": decay, "lr": 3e-3}
    _, progress = run(mlp(), EDM(), edm(), gaussian(64), **options)
    for k, p in enumerate(progress):
        rise = (k + 1) / 11 if k < 10 else 1.0
        fall = {"cosine": math.cos(math.pi * k / 80) ** 2, "linear": 1 - k / 40, "constant": 1.0}[decay]
        assert p.lr == pytest.approx(3e-3 * rise * fall, rel=1e-12)
    assert [p.step for p in progress] == list(range(1, 41))


def test_the_optimiser_takes_the_scheduled_learning_rate():
    """Adam's first step moves every parameter by the learning rate, for any gradient."""
    net = mlp()
    before = [p.detach().clone() for p in net.parameters()]
    _, (progress,) = run(net, EDM(), edm(), gaussian(64), steps=1, warmup=4, lr=1e-2)
    assert progress.lr == pytest.approx(2e-3)
    moved = torch.cat([(p - b).abs().flatten() for p, b in zip(net.parameters(), before, strict=True)])
    # Adam's eps of 1e-8 shortens steps on tiny gradients; most are not tiny.
    assert moved.median().item() == pytest.approx(2e-3, rel=1e-3)
    assert moved.max().item() <= 2e-3 * (1 + 1e-4)


def test_gradients_are_clipped_and_their_norm_is_reported_unclipped():
    def gradient(clip):
        net = mlp()
        _, (progress,) = run(net, EDM(), edm(), gaussian(64), steps=1, clip=clip)
        return progress.grad_norm, torch.cat([p.grad.flatten() for p in net.parameters()]).norm().item()

    whole, as_it_is = gradient(1e6)
    reported, clipped = gradient(whole / 10)
    assert as_it_is == pytest.approx(whole, rel=1e-5)
    assert reported == whole
    assert clipped == pytest.approx(whole / 10, rel=1e-4)


def test_a_seed_that_is_no_integer_is_refused_and_one_of_any_size_is_not():
    options = TrainingOptions(steps=1, batch_size=4)
    state = start(Denoiser(mlp(), EDM(), edm()), options)
    with pytest.raises(TypeError, match=r"seed must be an integer, got 0\.5"):
        train(state, gaussian(8), options=options, seed=0.5)
    losses = [
        run(mlp(), EDM(), edm(), gaussian(8), steps=1, seed=s)[1] for s in (1, np.int8(1), 2**80, -(2**80))
    ]
    assert losses[0] == losses[1]
    assert len({progress.loss for (progress,) in losses}) == 3


def test_the_run_does_not_depend_on_the_default_type():
    x, labels = gaussian(64), torch.arange(64) % 3
    nets = [mlp(classes=3) for _ in range(2)]
    expected = run(nets[0], EDM(), edm(), x, labels, steps=3)[1]
    torch.set_default_dtype(torch.float64)
    try:
        assert run(nets[1], EDM(), edm(), x, labels, steps=3)[1] == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_dropout_is_on_again_after_a_look_at_the_samples():
    losses = []
    for look in (False, True):
        options = TrainingOptions(steps=6, batch_size=16)
        state = start(Denoiser(dropping(), EDM(), edm()), options)
        part = []
        for progress in train(state, gaussian(64), options=options):
            part.append(progress.loss)
            if look:
                state.denoiser.eval()
        losses.append(part)
    assert losses[0] == losses[1]


def test_threads_that_train_give_the_bits_of_each_alone_and_leave_the_global_state():
    def one(seed):
        with seeded(seed):
            net = Dropping()
        return run(net, EDM(), edm(), gaussian(64), steps=40, seed=seed)

    alone = [one(seed) for seed in range(4)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(4)))
    assert torch.equal(torch.get_rng_state(), before)
    for (state, progress), (other, other_progress) in zip(alone, together, strict=True):
        assert progress == other_progress
        assert equal_states(state, other)
