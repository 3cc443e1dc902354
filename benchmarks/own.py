"""A problem of your own: a network that ``scoresde train`` left, and the data that it was trained on."""

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

# Pixels; larger images are compared by means over squares, for a covariance has their number squared.
SIDE = 32


def problem_of(
    name: str,
    sde: str | None = None,
    checkpoint: Path | None = None,
    dtype: torch.dtype | None = None,
    features: str | None = None,
    weights: Path | None = None,
    data: str | None = None,
) -> Problem:
    """A problem by name, or by the file or folder of a checkpoint.

    Args:
        sde: by name; without one, edm, or that of the checkpoint.
        data: the source of the training data; without one, that in the checkpoint's configuration.

    Raises:
        ValueError: no such problem or checkpoint, or options that do not go with it.
    """
    if name in PROBLEMS:
        return make_problem(name, sde or "edm", checkpoint, dtype, features, weights, data)
    if not Path(name).exists():
        try:
            lookup("problem", name, PROBLEMS)
        except ValueError as error:
            raise ValueError(f"{error}; or the file or folder of a checkpoint, which must exist") from None
    if checkpoint is not None:
        raise ValueError(f"--checkpoint has no place beside --problem {name}, which is one")
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
    """The problem of a network and its data, under its own SDE or one by name."""
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
    """The data of a source, or those that the network was trained on."""
    asked = trained.configuration.data
    if source is not None:
        asked = asked.model_copy(update={"source": source})
        if not source.startswith("hf:") and not source.endswith(".npz"):  # what has no names within
            asked = asked.model_copy(update={"images": "", "labels": ""})
    data = load_data(**asked.model_dump())
    if tuple(data.x.shape[1:]) != trained.shape:
        raise ValueError(
            f"--data must hold samples of shape {trained.shape}, as the network makes them, "
            f"got {tuple(data.x.shape[1:])} from {asked.source}"
        )
    return data


def _features(x: Tensor, name: str | None, weights: Path | None) -> Features:
    """Numbers to compare samples by: vectors as they are, and images by their pixels, if not by a network."""
    images = x.ndim == 4
    if name == "inception" and images:
        return by_network("FID", *inception_features(weights))
    if name not in (None, "pixels") or (name and not images):
        raise ValueError(f"--features must be pixels or inception, for images alone, got {name!r}")
    if not images:
        return Features("FD[vectors]", lambda x: x)
    if max(x.shape[2:]) <= SIDE:
        return Features("FD[pixels]", pixels)
    height, width = (min(n, SIDE) for n in x.shape[2:])
    return Features(
        f"FD[pixels {height}x{width}]", lambda x: pixels(F.adaptive_avg_pool2d(x.float(), (height, width)))
    )


def _labels(trained: Trained, labels: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """Labels in the shares of the data's, where the network takes any."""
    classes = trained.denoiser.classes or 0
    if not classes:
        return None
    if labels is None:
        seen = trained.labels.seen if trained.labels else range(classes)
        return balanced(tuple(int(label in seen) for label in range(classes)))
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels of --data must be 0 ... {classes - 1}, as the network's, got {int(labels.max())}"
        )
    return balanced(tuple(torch.bincount(labels, minlength=classes).tolist()))
