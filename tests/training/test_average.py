"""The moving average of the parameters."""

import copy

import torch
from training_runs import draw, dropping, gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm, v
from scoresde.networks import UNet
from scoresde.processes.continuous import EDM, VPSDE
from scoresde.training import TrainingOptions, start, train


def test_the_average_is_the_loop_that_it_says_to_be_with_its_warm_up():
    net = mlp()
    options = TrainingOptions(steps=30, batch_size=16, warmup=5, lr=1e-2, ema=0.7)
    state = start(Denoiser(net, EDM(), edm()), options)
    expected = None
    for n, _ in enumerate(train(state, gaussian(64), options=options)):
        now = [p.detach().double() for p in net.parameters()]
        decay = min(0.7, (1 + n) / (10 + n))  # 0.7 from n = 20 on
        if expected is None:
            expected = [p.clone() for p in now]
        else:
            expected = [decay * a + (1 - decay) * b for a, b in zip(expected, now, strict=True)]
        for a, b in zip(state.average.module.parameters(), expected, strict=True):
            # A few float32 roundings at every step.
            torch.testing.assert_close(a.detach().double(), b, rtol=1e-6, atol=1e-7)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(state.average.module.parameters(), net.parameters(), strict=True)
    )


def test_the_averaged_denoiser_is_the_average_to_sample_from():
    state, _ = run(dropping(), VPSDE(), v, gaussian(64))
    x, level = draw((3, 2), dtype=torch.float32), VPSDE().level(torch.tensor(0.5))
    expected = Denoiser(state.average.module.eval(), VPSDE(), v)(x, level)
    assert torch.equal(state.averaged(x, level), expected)
    assert not torch.equal(state.denoiser.eval()(x, level), expected)


def test_the_average_is_of_parameters_alone():
    torch.manual_seed(0)
    net = UNet(1, (8,), 1, embedding="fourier")
    net.register_buffer("counts", torch.zeros(1))

    def count(module, *_):
        module.counts += 1

    net.register_forward_hook(count)
    frequencies = net.level[0].freqs.clone()
    state, _ = run(net, EDM(), edm(1.0), draw((32, 1, 4, 4)), steps=5)
    buffers, averaged = dict(net.named_buffers()), dict(state.average.module.named_buffers())
    assert buffers.keys() == averaged.keys()
    for name, buffer in buffers.items():
        assert torch.equal(averaged[name], buffer), name
    assert torch.equal(net.level[0].freqs, frequencies)
    assert buffers["counts"].item() == 5


def test_a_network_in_float64_is_trained_and_its_average_keeps_the_precision_of_the_denoiser():
    state, _ = run(mlp().double(), EDM(), edm(), gaussian(64), steps=3)
    assert {p.dtype for p in state.average.module.parameters()} == {torch.float64}
    assert state.averaged(draw((3, 2), dtype=torch.float32), EDM().level(torch.tensor(0.5))).isfinite().all()
    for dtype in (None, torch.bfloat16, torch.float64):
        denoiser = Denoiser(mlp(), EDM(), edm(), dtype=dtype)
        assert start(denoiser, TrainingOptions()).averaged.dtype == (dtype or torch.float32)
        assert copy.deepcopy(denoiser).dtype == (dtype or torch.float32)
