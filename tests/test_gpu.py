"""On a GPU: the results of the host, nothing in a loop that waits for the device, whole runs recorded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from scoresde import (
    EDM,
    SOLVERS,
    VPSDE,
    Denoiser,
    ExactDenoiser,
    Karras,
    Mixture,
    Noise,
    captured,
    guided,
    integrate,
    predict,
    prepare,
    sample,
    tune,
)
from scoresde.box_muller import box_muller
from scoresde.conditioning import Interval
from scoresde.networks import MLP
from scoresde.noise import later
from scoresde.pretrained import pretrained
from scoresde.tuning import Settings
from scoresde.tuning.derivatives import difference_step
from scoresde.tuning.saved import TuningState
from tests.problems import BLACK_BOXES, TABLES, calls

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

MEANS = torch.tensor([[1.0, 0.2, -0.4], [-0.8, 0.6, 0.5], [0.1, -1.0, 0.3]], dtype=torch.float64)
MIXTURE = Mixture(MEANS, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double())
CLIPPED = EDM(t_min=0.02, t_max=20.0)


@contextmanager
def never_waiting() -> Iterator[None]:
    """Whatever waits for the device is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it may overlook some
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def network() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(MLP(3).cuda(), VPSDE(), predict.edm())


@pytest.mark.parametrize("shape", [(), (5,), (3, 32, 32), (1, 28, 28)])
def test_noise_is_that_of_the_host(shape):
    """To the bit: each of its operations is defined to the bit by IEEE 754."""
    ids = torch.arange(10_000 if len(shape) < 3 else 500)
    assert torch.equal(Noise(3, ids.cuda(), shape)(2).cpu(), Noise(3, ids, shape)(2))


def test_all_radii_and_angles_are_those_of_the_host():
    """Words near the ends of their range, and some of all others."""
    some = torch.randint(-(2**31), 2**31, (10**6,), generator=torch.Generator().manual_seed(0))
    ends = torch.cat([one + torch.arange(1000) for one in (-(2**31), -500, 2**31 - 1000)])
    a, b = torch.cat([some, ends]).int(), torch.cat([some.flip(0), ends.flip(0)]).int()
    here, there = torch.empty(2, len(a)), torch.empty(2, len(a), device="cuda")
    box_muller(a.clone(), b.clone(), *here)
    box_muller(a.cuda(), b.cuda(), *there)
    assert torch.equal(there.cpu(), here)


def test_a_draw_does_not_wait():
    noise = Noise(0, torch.arange(16, device="cuda"), (3, 8, 8))
    noise(0)
    torch.cuda.synchronize()
    with never_waiting():
        noise(1)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_draws_the_samples_of_the_host(name):
    """In float64, from the same noise."""
    if name == "torchsde":
        pytest.skip("draws its own noise, on the device")
    denoiser = ExactDenoiser(MIXTURE, CLIPPED)
    x = 20.0 * Noise(1, torch.arange(32), (3,))(0).double()
    here, there = (
        sample(
            denoiser, name, (32, 3), nfe=calls(name, 12), spacing=Karras(), x=x, device=d, dtype=torch.float64
        ).cpu()
        for d in ("cpu", "cuda")
    )
    close = (there - here).abs().amax(1) < (1e-3 if name in BLACK_BOXES else 1e-8)
    # A sample between two modes may go to the other, for the least of causes.
    assert close.float().mean() > 0.9
    if name in TABLES:
        assert close.all()


@pytest.mark.parametrize("name", TABLES)
def test_nothing_in_a_run_waits_for_the_device(name):
    denoiser = network()
    plan = prepare(name, VPSDE(), calls(name, 12))
    noise = Noise(0, torch.arange(16, device="cuda"), (3,))
    x = noise(0)
    with torch.no_grad():
        integrate(plan, denoiser, x, later(noise))  # libraries make themselves ready
        torch.cuda.synchronize()
        with never_waiting():
            integrate(plan, denoiser, x, later(noise))


def test_an_exact_score_that_is_there_does_not_wait_either():
    mixture = Mixture(*(value.cuda() for value in (MIXTURE.means, MIXTURE.stds, MIXTURE.shares)))
    denoiser, plan = ExactDenoiser(mixture, CLIPPED), prepare("dpmpp-2m", CLIPPED, 10)
    x = 20.0 * Noise(0, torch.arange(16, device="cuda"), (3,))(0)
    with torch.no_grad():
        integrate(plan, denoiser, x)
        with never_waiting():
            integrate(plan, denoiser, x)


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpmpp-2m-sde", "pc"])
def test_a_captured_run_draws_the_same_samples(name):
    denoiser, plan = network(), prepare(name, VPSDE(), 10)
    draw = captured(denoiser, plan, (16, 3), seed=5)
    for first in (0, 100):
        ids = torch.arange(first, first + 16)
        expected = sample(denoiser, plan, (16, 3), seed=5, ids=ids, device="cuda")
        assert torch.equal(draw(ids.cuda()), expected)
    with pytest.raises(ValueError, match="ids must be like the recorded ids"):
        draw(torch.arange(4).cuda())


def test_a_captured_run_has_other_conditions_the_next_time():
    denoiser = pretrained("mnist").denoiser
    denoiser = Denoiser(denoiser.net.cuda(), denoiser.sde, denoiser.prediction)
    plan = prepare("tuned", denoiser.sde, 4)
    first, other = torch.arange(8), torch.arange(8).flip(0)
    draw = captured(denoiser, plan, (8, 1, 28, 28), cond=first)
    for cond in (first, other):
        expected = sample(denoiser, plan, (8, 1, 28, 28), cond=cond, device="cuda")
        torch.testing.assert_close(draw(torch.arange(8).cuda(), cond.cuda()), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="cond must be like the recorded cond"):
        draw(torch.arange(8).cuda())


@pytest.mark.parametrize("together", [True, False])
def test_guidance_waits_for_nothing_and_can_be_captured(together):
    denoiser = pretrained("mnist").denoiser
    denoiser = Denoiser(denoiser.net.cuda(), denoiser.sde, denoiser.prediction)
    one = guided(denoiser, None, Interval(2.0, 0.3, 5.0, 0.15), together=together)
    plan, cond, ids = prepare("dpmpp-2m-sde", denoiser.sde, 6), torch.arange(8).cuda(), torch.arange(8).cuda()
    expected = sample(one, plan, (8, 1, 28, 28), cond=cond, device="cuda")
    noise = Noise(0, ids, (1, 28, 28))
    x = plan.start.sigma * noise(0)
    with never_waiting(), torch.no_grad():
        found = integrate(plan, lambda at, level: one(at, level, cond), x, later(noise, torch.float32))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    draw = captured(one, plan, (8, 1, 28, 28), cond=cond)
    torch.testing.assert_close(draw(ids, cond), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler
@pytest.mark.parametrize("name", ["dpmpp-2m", "dpmpp-2m-sde"])
def test_a_compiled_run_is_the_same_within_roundings(name):
    denoiser, plan = network(), prepare(name, VPSDE(), 10)
    plain, compiled = (
        sample(denoiser, plan, (16, 3), device="cuda", compile=compile) for compile in (False, True)
    )
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


def test_a_tuning_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    settings = Settings(samples=64, held_out=128, iterations=3, bands=3, solvers=("ddim", "dpmpp-2m"))
    denoiser = ExactDenoiser(MIXTURE, CLIPPED)

    def tuned(folder):
        return tune(denoiser, 3, (3,), settings=settings, batch_size=256, device="cuda", state=folder)

    whole, report = tuned(tmp_path / "whole")
    assert report.tuned
    kind = TuningState
    saves, save = [], kind.save

    def stop(self, *args):
        saves.append(1)
        save(self, *args)
        if len(saves) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(kind, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "stopped")
    monkeypatch.undo()
    assert tuned(tmp_path / "stopped")[0] == whole


def test_the_step_of_differences_knows_tf32():
    shipped = pretrained("mnist").denoiser
    denoiser = Denoiser(shipped.net.cuda(), shipped.sde, shipped.prediction)
    x, cond = Noise(0, torch.arange(64).cuda(), (1, 28, 28))(0), torch.arange(64).cuda() % 10
    steps = []
    for allowed in (False, True):
        with torch.no_grad(), tf32(allowed):
            steps.append(difference_step(denoiser, x, shipped.sde.level_of(0.0), cond))
    assert steps[0] < 1e-3
    assert steps[1] > 3 * steps[0]


def test_a_recorded_network_may_work_in_place():
    plan = prepare("dpmpp-2m", VPSDE(), 6)
    clean, in_place = (
        Denoiser(of, VPSDE(), predict.noise) for of in (lambda x, t: 0.5 * x, lambda x, t: x.mul_(0.5))
    )
    draw = captured(in_place, plan, (4, 3))
    expected = sample(clean, plan, (4, 3), device="cuda")
    torch.testing.assert_close(draw(torch.arange(4, device="cuda")), expected)
