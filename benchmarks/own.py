"""A problem by name, or your own: a network that ``scoresde train`` wrote, and its training data."""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path

import torch
from inception import inception_features
from problems import (
    LAM_MAX,
    LAM_MIN,
    PROBLEMS,
    Features,
    Problem,
    balanced,
    by_network,
    make_problem,
    pixels,
    under,
)
from torch import Tensor
from torch.nn import functional as F

from scoresde.data import Data, load_data
from scoresde.data.pixels import to_float
from scoresde.metrics.moments import Moments
from scoresde.processes.catalogue import sde_of
from scoresde.registry import lookup
from scoresde.training.checkpoint import Trained, load_denoiser

# In pixels. Larger images are compared by their means over squares: the size of a covariance is the square of
# the number of pixels.
SIDE = 32


def add_problem(parser: ArgumentParser) -> None:
    """Add the options --problem and --checkpoint."""
    parser.add_argument(
        "--problem",
        default="mnist",
        metavar="NAME",
        help=f"{', '.join(PROBLEMS)}, or your own: the file or folder that scoresde train wrote; default "
        "%(default)s",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="a network that scoresde train wrote, to replace the included network of the problem",
    )


def problem_of(
    name: str,
    sde: str | None = None,
    checkpoint: Path | None = None,
    dtype: torch.dtype | None = None,
    features: str | None = None,
    weights: Path | None = None,
    data: str | None = None,
) -> Problem:
    """A problem by name, or from the file or folder of a checkpoint.

    Args:
        name: in PROBLEMS, or a path.
        sde: by name; default: edm, or the SDE of the checkpoint.
        checkpoint: a network to replace the one that ships; for a problem by name.
        dtype: precision of the network; default: its own.
        features: by name; default: those of the problem.
        weights: the file of the Inception network.
        data: the source of the training data; default: the source in the checkpoint's configuration.

    Raises:
        ValueError: no such problem or checkpoint, or an option that the problem does not allow.
    """
    if name in PROBLEMS:
        return make_problem(name, sde or "edm", checkpoint, dtype, features, weights, data)
    if not Path(name).exists():
        try:
            lookup("problem", name, PROBLEMS)
        except ValueError as error:
            raise ValueError(f"{error}; or the path of a checkpoint, which must exist") from None
    if checkpoint is not None:
        raise ValueError(f"--checkpoint is not allowed with --problem {name}, which is a checkpoint")
    trained = load_denoiser(name)
    found = _data(trained, data)
    measured = _features(found.x, features, weights)
    return _own(name, trained, found, measured, sde, dtype)


def _own(
    name: str,
    trained: Trained,
    data: Data,
    features: Features,
    sde: str | None,
    dtype: torch.dtype | None,
) -> Problem:
    """The problem of a network and its data, under the network's SDE or under an SDE by name."""
    process = trained.denoiser.sde if sde is None else sde_of(sde).clip(LAM_MIN, LAM_MAX)
    moments = Moments()
    for part in torch.split(data.x, 500):
        moments.add(features.of(to_float(part)))
    return Problem(
        name=name,
        shape=trained.shape,
        denoiser=under(trained, process, dtype),
        features=features,
        data=moments,
        labels=_labels(trained, data.labels),
        process=sde or trained.configuration.sde.name,
        checkpoint=name,
    )


def _data(trained: Trained, source: str | None) -> Data:
    """The data of a source, or the data that the network was trained on."""
    asked = trained.configuration.data
    if source is not None:
        asked = asked.model_copy(update={"source": source})
        if not source.startswith("hf:") and not source.endswith(".npz"):  # a source without named arrays
            asked = asked.model_copy(update={"images": "", "labels": ""})
    data = load_data(**asked.model_dump())
    if tuple(data.x.shape[1:]) != trained.shape:
        raise ValueError(
            f"--data must hold samples of shape {trained.shape}, as the network does, "
            f"got {tuple(data.x.shape[1:])} from {asked.source}"
        )
    return data


def _features(x: Tensor, name: str | None, weights: Path | None) -> Features:
    """The features of samples: a vector itself; of an image, its pixels or the features of a network."""
    images = x.ndim == 4
    if name == "inception" and images:
        return by_network("FID", *inception_features(weights))
    if name not in (None, "pixels") or (name and not images):
        raise ValueError(f"--features must be pixels or inception, and only for images, got {name!r}")
    if not images:
        return Features("FD[vectors]", lambda x: x)
    if max(x.shape[2:]) <= SIDE:
        return Features("FD[pixels]", pixels)
    height, width = (min(n, SIDE) for n in x.shape[2:])
    return Features(
        f"FD[pixels {height}x{width}]", lambda x: pixels(F.adaptive_avg_pool2d(x.float(), (height, width)))
    )


def _labels(trained: Trained, labels: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """Labels with the proportions of the data; None for a network without classes."""
    classes = trained.denoiser.classes or 0
    if not classes:
        return None
    if labels is None:
        seen = trained.labels.seen if trained.labels else range(classes)
        return balanced(tuple(int(label in seen) for label in range(classes)))
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels of --data must be 0 ... {classes - 1}, as in the network, got {int(labels.max())}"
        )
    return balanced(tuple(torch.bincount(labels, minlength=classes).tolist()))
