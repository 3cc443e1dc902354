"""The problems for solvers: a denoiser, features of samples, and the moments of the data's features."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from inception import inception_features
from torch import Tensor, nn

from scoresde.data import load_data
from scoresde.data.pixels import to_float, to_uint8
from scoresde.denoisers.exact import ExactDenoiser
from scoresde.denoisers.mixture import Mixture
from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.protocol import DenoiserLike
from scoresde.denoisers.transported import Transported
from scoresde.metrics.frechet import frechet_distance
from scoresde.metrics.moments import Moments, gaussian_moments
from scoresde.pretrained import FOLDERS, pretrained
from scoresde.processes.catalogue import sde_of
from scoresde.processes.sde import SDE
from scoresde.registry import lookup
from scoresde.training.checkpoint import Trained, load_denoiser

# sigma / alpha from 80 to 0.002, the range in which the networks that ship were trained; alpha > 0 in it.
LAM_MIN, LAM_MAX = -math.log(80), -math.log(0.002)


@dataclass(frozen=True)
class Features:
    """The features in which two sets of samples are compared.

    Args:
        name: of the distance, in tables.
        of: from samples, images in [-1, 1] or vectors, to features ``(B, d)``.
        network: computes the features on its device, if they need one.
    """

    name: str
    of: Callable[[Tensor], Tensor]
    network: nn.Module | None = None


@dataclass(frozen=True)
class Problem:
    """A distribution to sample from.

    Args:
        name: in tables.
        shape: of one sample.
        denoiser: exact or trained.
        features: in which samples are compared with the data.
        data: the moments of the data's features.
        held_out: FD of test data, and its number of samples; None if not known.
        labels: from the numbers of samples to their labels, for a conditional network.
        converged: network calls of the converged run, which stands for the exact solution.
        process: the SDE's name.
        checkpoint: the network's file, or "shipped".
    """

    name: str
    shape: tuple[int, ...]
    denoiser: DenoiserLike
    features: Features
    data: Moments
    held_out: tuple[float, int] | None = None
    labels: Callable[[Tensor], Tensor] | None = None
    converged: int = 64
    process: str = ""
    checkpoint: str = "shipped"


def make_problem(
    name: str,
    sde: str,
    checkpoint: Path | None = None,
    dtype: torch.dtype | None = None,
    features: str | None = None,
    weights: Path | None = None,
    images: str | None = None,
) -> Problem:
    """A problem by name, under an SDE by name; ValueError for an option that it does not allow."""
    maker = lookup("problem", name, PROBLEMS)
    process = sde_of(sde).clip(LAM_MIN, LAM_MAX)
    if name.startswith("gmm"):
        for option, value in (("checkpoint", checkpoint), ("features", features)):
            if value is not None:
                raise ValueError(f"--{option} is not allowed for problem {name!r}, whose score is exact")
    problem = replace(maker(process, checkpoint, dtype), process=sde, checkpoint=str(checkpoint or "shipped"))
    if features in (None, "mnist-cnn" if name == "mnist" else "pixels"):
        return problem
    return _with_features(problem, str(features), weights, images)


def _mnist(sde: SDE, checkpoint: Path | None, dtype: torch.dtype | None) -> Problem:
    shipped = pretrained("mnist")
    shape = (1, 28, 28)
    trained = _load(checkpoint or FOLDERS["mnist"], shape, "mnist")
    return Problem(
        name="mnist",
        shape=shape,
        denoiser=under(trained, sde, dtype),
        features=by_network("FD[mnist-cnn]", shipped.features, shipped.features.features),
        data=shipped.reference,
        held_out=(frechet_distance(shipped.test, shipped.reference), shipped.test.count),
        labels=balanced(MNIST_CLASSES) if trained.denoiser.classes else None,
    )


# Images of each digit in the training set.
MNIST_CLASSES = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


def _digits(sde: SDE, checkpoint: Path | None, dtype: torch.dtype | None) -> Problem:
    if checkpoint is None:
        raise ValueError(
            "problem 'digits' needs --checkpoint; train one in a minute: "
            "scoresde train --config configs/digits.toml"
        )
    shape = (1, 8, 8)
    trained = _load(checkpoint, shape, "digits")
    found = load_data("digits")
    assert found.labels is not None
    moments = Moments()
    moments.add(pixels(to_float(found.x)))
    return Problem(
        name="digits",
        shape=shape,
        denoiser=under(trained, sde, dtype),
        features=Features("FD[pixels]", pixels),
        data=moments,
        labels=balanced(tuple(torch.bincount(found.labels).tolist())) if trained.denoiser.classes else None,
    )


def _gmm2(sde: SDE, checkpoint: Path | None, dtype: torch.dtype | None) -> Problem:
    """Eight narrow components on a circle, with different sizes and weights."""
    turn = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = 0.8 * torch.stack([turn.cos(), turn.sin()], 1)
    return _mixture("gmm2", sde, means, torch.linspace(0.05, 0.15, 8, dtype=torch.float64))


def _gmm64(sde: SDE, checkpoint: Path | None, dtype: torch.dtype | None) -> Problem:
    """Thirty-two components in 64 dimensions, with random means."""
    means = 0.5 * torch.randn(32, 64, generator=torch.Generator().manual_seed(64), dtype=torch.float64)
    return _mixture("gmm64", sde, means, torch.linspace(0.05, 0.25, 32, dtype=torch.float64))


def _mixture(name: str, sde: SDE, means: Tensor, stds: Tensor) -> Problem:
    shares = torch.linspace(1, 2, len(means), dtype=torch.float64)
    mixture = Mixture(means, stds, shares / shares.sum())
    return Problem(
        name=name,
        shape=means.shape[1:],
        denoiser=ExactDenoiser(mixture, sde),
        features=Features("FD[vectors]", lambda x: x),
        data=gaussian_moments(*mixture.moments()),
        converged=512,
    )


PROBLEMS: dict[str, Callable[[SDE, Path | None, torch.dtype | None], Problem]] = {
    "mnist": _mnist,
    "digits": _digits,
    "gmm2": _gmm2,
    "gmm64": _gmm64,
}

FEATURES = ("mnist-cnn", "pixels", "inception")


def _with_features(problem: Problem, name: str, weights: Path | None, images: str | None) -> Problem:
    """The problem with other features, and new moments from the images of its data."""
    lookup("features", name, dict.fromkeys(FEATURES))
    if name == "mnist-cnn":
        raise ValueError(f"features 'mnist-cnn' are for problem 'mnist', not {problem.name!r}")
    if images is None:
        raise ValueError(
            f"--features {name} needs --data, the training images of {problem.name!r} as .npz or folder"
        )
    x = load_data(images, images="x_train" if images.endswith(".npz") else "").x
    if tuple(x.shape[1:]) != problem.shape:
        raise ValueError(f"--data must hold images of shape {problem.shape}, got {tuple(x.shape[1:])}")
    if name == "inception":
        features = by_network("FID", *inception_features(weights))
    else:
        features = Features("FD[pixels]", pixels)
    moments = Moments()
    for part in torch.split(x, 500):
        moments.add(features.of(to_float(part)))
    return replace(problem, features=features, data=moments, held_out=None)


def by_network(name: str, network: nn.Module, of: Callable[[Tensor], Tensor]) -> Features:
    """Features that a network computes from pixels: ``of`` maps uint8 images to them."""

    def there(x: Tensor) -> Tensor:
        return of(to_uint8(x).to(next(network.parameters()).device))

    return Features(name, there, network)


def pixels(x: Tensor) -> Tensor:
    """Images in [-1, 1] as vectors ``(B, C H W)``, rounded to the 256 values of pixels."""
    return to_uint8(x).flatten(1).double() / 127.5 - 1


def under(trained: Trained, sde: SDE, dtype: torch.dtype | None) -> Denoiser | Transported:
    """The denoiser of a network, under its own SDE or another."""
    own = trained.denoiser
    denoiser = Denoiser(own.net, own.sde, own.prediction, dtype=dtype)
    return denoiser if sde == own.sde else Transported(denoiser, sde)


def _load(checkpoint: Path, shape: tuple[int, ...], name: str) -> Trained:
    trained = load_denoiser(checkpoint)
    if trained.shape != shape:
        raise ValueError(
            f"problem {name!r} needs a network for samples of shape {shape}, got one for {trained.shape}"
        )
    return trained


def balanced(counts: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Labels in proportion to ``counts``, evenly spread over any range of sample numbers."""
    edges = torch.tensor(counts, dtype=torch.float64).cumsum(0) / sum(counts)

    def labels(ids: Tensor) -> Tensor:
        place = (ids.double() * ((math.sqrt(5) - 1) / 2) + 0.5) % 1
        return torch.searchsorted(edges, place, right=True).clamp(max=len(counts) - 1)

    return labels
