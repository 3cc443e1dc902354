"""The files of the included network, and a folder of the same kind that the tests make."""

import importlib.util
import warnings
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde import UniformLambda, prepare, sample
from scoresde.data import load_data
from scoresde.data.pixels import to_float, to_uint8
from scoresde.files import write_tensors
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.metrics.moments import Moments
from scoresde.networks.classifier import Classifier
from scoresde.plans.fingerprint import fingerprint
from scoresde.pretrained import FEATURES, FOLDERS, MODEL, REFERENCE, Pretrained, pretrained
from scoresde.training.configuration import validate
from scoresde.training.levels import levels_of

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "../shared/data/mnist.npz"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features and statistics of noise, written by a program of benchmarks/, and a network."""
    folder = tmp_path_factory.mktemp("pretrained")
    draw = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, n in (("train", 90), ("test", 70)):
        arrays[f"x_{split}"] = draw.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"y_{split}"] = draw.integers(0, 10, n, dtype=np.uint8)
    np.savez(folder / "noise.npz", **arrays)  # type: ignore[arg-type]
    arguments = ["--data", str(folder / "noise.npz"), "--out", str(folder), "--epochs", "1", "--quiet"]
    assert benchmark("train_features").main(arguments) == 0
    plain = {
        "data": {"source": "x.npy"},
        "network": {"name": "mlp", "width": 8},
        "prediction": {"name": "edm"},
    }
    configuration = validate(plain, "here")
    net = configuration.make_denoiser().net
    assert isinstance(net, torch.nn.Module)
    write_tensors(
        folder / MODEL, net.state_dict(), configuration=configuration.model_dump(mode="json"), shape=[2]
    )
    return folder


def test_a_folder_is_read_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FOLDERS, "noise", folder)
    found = pretrained("noise")
    assert found.configuration.network.name == "mlp"
    x = torch.zeros(3, 2)
    assert found.denoiser(x, found.denoiser.sde.level(torch.full((3, 1), 0.5))).shape == x.shape
    assert found.features.features(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).shape == (3, 64)
    assert (found.reference.count, found.test.count) == (90, 70)
    assert len(found.reference.mean) == Classifier.SIZE
    for module in (found.denoiser, found.features):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_headers_say_where_the_numbers_come_from(folder: Path) -> None:
    found = Pretrained(folder)
    about = found.about
    assert about["features"]["steps"] == 1
    assert 0 <= about["features"]["test_accuracy"] <= 1
    assert about["reference"]["counts"] == {"train": 90, "test": 70}
    assert about["reference"]["fd_test_to_train"] == frechet_distance(found.test, found.reference)
    assert "--epochs 1" in about["features"]["command"]


def test_parts_are_read_only_when_asked_for(folder: Path, tmp_path: Path) -> None:
    for name in (FEATURES, REFERENCE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = Pretrained(tmp_path)
    assert found.features is found.features
    assert found.test.count == 70
    with pytest.raises(ValueError, match=f"{MODEL} does not exist"):
        _ = found.denoiser


def test_statistics_of_other_features_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / REFERENCE).write_bytes((folder / REFERENCE).read_bytes())
    with pytest.raises(ValueError, match="was not computed with the features"):
        _ = Pretrained(tmp_path).reference
    write_tensors(tmp_path / FEATURES, Classifier().state_dict())
    with pytest.raises(ValueError, match="was not computed with the features"):
        _ = Pretrained(tmp_path).test


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / FEATURES, Classifier(classes=3).state_dict())
    with pytest.raises(ValueError, match="does not fit the classifier"):
        _ = Pretrained(tmp_path).features


@pytest.mark.parametrize("nfe", [4, 5, 6, 8, 10])
def test_a_tuned_plan_comes_with_the_network(nfe: int) -> None:
    denoiser, plan = pretrained("mnist").denoiser, pretrained("mnist").plan(nfe)
    assert plan == prepare("tuned", denoiser.sde, nfe)
    assert plan.nfe == nfe
    assert plan.about is not None
    assert plan.about["weights"] == fingerprint(denoiser)["weights"]


def test_a_budget_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"included plan: 4, 5, 6, 8, 10; got 7"):
        pretrained("mnist").plan(7)
    with pytest.raises(ValueError, match="there is none; got 4"):
        Pretrained(tmp_path).plan(4)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown pretrained network 'mnits'; did you mean 'mnist'"):
        pretrained("mnits")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 28, 28), torch.zeros(2, 28, 28, dtype=torch.uint8), torch.zeros(2, 3, 28, 28).byte()],
)
def test_the_classifier_takes_only_its_own_images(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 1, 28, 28\) uint8"):
        Classifier()(images)


def test_a_classifier_needs_classes() -> None:
    with pytest.raises(ValueError, match="at least 2, got 1"):
        Classifier(classes=1)


def test_the_shipped_files_are_small() -> None:
    assert sum(parameter.numel() for parameter in Classifier().parameters()) < 100_000
    assert (FOLDERS["mnist"] / FEATURES).stat().st_size < 500_000
    assert (FOLDERS["mnist"] / REFERENCE).stat().st_size < 100_000


def test_the_shipped_statistics_are_of_all_of_mnist() -> None:
    found = pretrained("mnist")
    assert (found.reference.count, found.test.count) == (60_000, 10_000)
    assert found.about["reference"]["features"] == "mnist-cnn"
    # The same arithmetic on the same numbers, but perhaps another LAPACK than where it was written.
    written = found.about["reference"]["fd_test_to_train"]
    assert frechet_distance(found.test, found.reference) == pytest.approx(written, rel=1e-9)


class Split(NamedTuple):
    images: Tensor
    labels: Tensor
    moments: Moments
    accuracy: float


@pytest.fixture(scope="module")
def mnist() -> Split:
    if not MNIST.exists():
        pytest.skip("MNIST is not here: ../shared/data/mnist.npz")
    images, labels, _ = load_data(str(MNIST), images="x_test", labels="y_test")
    assert labels is not None
    net = pretrained("mnist").features
    moments, right = Moments(), 0
    for x, truth in zip(torch.split(images, 500), torch.split(labels, 500), strict=True):
        features = net.features(x)
        moments.add(features)
        right += int((net.head(features).argmax(1) == truth).sum())
    return Split(images, labels, moments, right / len(images))


def test_the_features_know_digits(mnist: Split) -> None:
    assert mnist.accuracy >= 0.99
    # An image on the edge between two classes may fall either way on another processor.
    assert mnist.accuracy == pytest.approx(pretrained("mnist").about["features"]["test_accuracy"], abs=3e-4)


def test_the_test_statistics_are_found_again(mnist: Split) -> None:
    shipped = pretrained("mnist").test
    assert shipped.count == mnist.moments.count
    # Features are float32, with 1e-7 of noise each from one processor or batch to the next; means have less.
    for ours, theirs in ((mnist.moments.mean, shipped.mean), (mnist.moments.cov, shipped.cov)):
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm()


def test_the_more_noise_the_farther_from_the_data(mnist: Split) -> None:
    found = pretrained("mnist")
    x = to_float(mnist.images[:1000])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    distances = [
        frechet_distance(feature_moments(found.features.features, to_uint8(x + std * noise)), found.reference)
        for std in (0.0, 0.2, 0.6)
    ]
    # Each step is one that the eye sees at once.
    assert 2 * distances[0] < distances[1] < distances[2] / 2


def test_the_network_that_ships_is_small_and_says_how_it_came_to_be():
    shipped = pretrained("mnist")
    assert shipped.trained.shape == (1, 28, 28)
    assert (shipped.folder / "model.safetensors").stat().st_size < 7e6
    assert sum(p.numel() for p in shipped.denoiser.net.parameters()) < 3e6
    assert not shipped.denoiser.training
    about = shipped.about["model"]
    assert about["step"] == shipped.configuration.optimization.steps
    commands = [part["command"] for part in (*about["before"], about)]
    assert [len(command) > 40 for command in commands] == [True] * 3
    page = (ROOT / "docs" / "pages" / "training.md").read_text()
    for command in commands:
        assert command in page


def test_the_configuration_of_the_network_that_ships_is_that_of_its_command():
    from scoresde.training.configuration import read_configuration

    shipped = pretrained("mnist")
    words = shipped.about["model"]["command"].split()
    file = words[words.index("--config") + 1]
    given = [word for word in words if "=" in word]
    assert read_configuration(ROOT / file, given) == shipped.configuration


def test_samples_of_the_network_that_ships_are_the_digits_asked_for():
    from scoresde import Karras, sample

    shipped = pretrained("mnist")
    labels = torch.arange(100) % 10
    x = sample(shipped.denoiser, "dpmpp-2m", (100, 1, 28, 28), nfe=10, spacing=Karras(7.0), cond=labels)
    found = shipped.features(to_uint8(x)).argmax(1)
    # Of real images the classifier knows 99.5 %; one class in ten would be chance.
    assert (found == labels).float().mean() > 0.9


@pytest.mark.slow
def test_the_tables_that_ship_are_made_for_the_network_that_ships_and_nearer_the_exact_end() -> None:
    """0.7 of the error of the best of three stock solvers at most, on noises that the tuning did not see."""
    denoiser = pretrained("mnist").denoiser
    draw = partial(sample, denoiser, shape=(24, 1, 28, 28), seed=7, cond=torch.arange(24) % 10)
    exact = draw("dpmpp-3m", nfe=40, spacing=UniformLambda())

    def error(solver: str, nfe: int) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a table of another network
            return float((draw(solver, nfe=nfe) - exact).square().mean().sqrt())

    for nfe in (4, 5, 6, 8, 10):
        assert error("tuned", nfe) < 0.7 * min(error(solver, nfe) for solver in ("deis", "ipndm", "dpmpp-2m"))


def test_the_levels_of_the_package_are_those_of_its_network() -> None:
    """The program takes levels only if the hash of the network's weights and settings is theirs."""
    shipped = pretrained("mnist")
    levels = levels_of(shipped.folder, shipped.denoiser)
    assert levels == shipped.levels
    assert [choice.calls for choice in shipped.levels.choices] == [5, 8, 10, 20, 50]
