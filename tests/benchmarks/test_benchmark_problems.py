"""The problems that solvers are measured on."""

import pytest
import torch
from problems import MNIST_CLASSES, PROBLEMS, make_problem
from stopwatch import Timed, device_name, peak_memory_mb, reset_peak_memory

from scoresde import Counted, prepare, sample


@pytest.mark.parametrize("sde", ["vp", "sub-vp", "ve", "cosine", "edm", "rectified-flow", "ddpm"])
@pytest.mark.parametrize("name", ["mnist", "gmm2", "gmm64"])
def test_every_problem_runs_under_every_sde(name, sde):
    problem = make_problem(name, sde)
    cond = problem.labels(torch.arange(2)) if problem.labels else None
    counted = Counted(problem.denoiser)
    x = sample(counted, "dpmpp-2m", (2, *problem.shape), nfe=6, cond=cond)
    assert torch.isfinite(x).all()
    assert x.abs().max() < 4  # data, not noise
    assert counted.calls == 6


def test_mixtures_at_convergence_have_the_moments_of_their_data():
    for name in ("gmm2", "gmm64"):
        problem = make_problem(name, "vp")
        x = sample(problem.denoiser, "dpmpp-3m", (4000, *problem.shape), nfe=64)
        mean = x.double().mean(0)
        # Four standard errors of a mean of 4,000.
        assert (mean - problem.data.mean).abs().max() < 4 * problem.data.cov.diag().max().sqrt() / 4000**0.5


def test_labels_have_the_shares_of_the_training_set_in_any_stretch():
    labels = make_problem("mnist", "edm").labels
    shares = torch.tensor(MNIST_CLASSES) / sum(MNIST_CLASSES)
    for first in (0, 12_345):
        counts = torch.bincount(labels(torch.arange(first, first + 1000)), minlength=10)
        # A golden-ratio sequence of 1,000 misses any interval's share by a few points at most.
        assert (counts - 1000 * shares).abs().max() < 5


def test_every_problem_has_a_name():
    assert sorted(PROBLEMS) == ["digits", "gmm2", "gmm64", "mnist"]


def test_inception_features_with_random_weights(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    from inception import inception_features

    class Bare(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args):
            return None

    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    torch.manual_seed(0)
    torch.save(Bare("inception", ["2048"], feature_extractor_weights_path=str(weights)).state_dict(), weights)
    _, of = inception_features(weights)
    features = of(torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8))
    assert features.shape == (2, 2048)
    assert torch.isfinite(features).all()


def test_the_stopwatch_counts_and_times_calls():
    problem = make_problem("gmm2", "edm")
    ticks = []
    one = Timed(problem.denoiser, torch.device("cpu"), lambda: ticks.append(1))
    sample(one, "heun", (8, 2), nfe=9)
    assert one.calls == len(ticks) == prepare("heun", one.sde, 9).nfe == 8
    assert one.seconds() > 0
    assert one.seconds() == 0  # the seconds since the last question
    reset_peak_memory(torch.device("cpu"))
    before = peak_memory_mb(torch.device("cpu"))
    block = torch.ones(2**24)  # 64 MiB
    assert peak_memory_mb(torch.device("cpu")) - before > 50
    del block


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_name_of_the_processor_has_the_number_of_threads(count, words):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        assert device_name(torch.device("cpu")).split(", ")[-1] == words
    finally:
        torch.set_num_threads(before)
