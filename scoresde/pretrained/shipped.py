"""Networks that come with the package, and what samples of theirs are measured against."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..denoisers.network import Denoiser
from ..files import read_tensors
from ..metrics.moments import Moments
from ..networks.classifier import Classifier
from ..registry import lookup
from ..training.checkpoint import MODEL, Trained, load_denoiser
from ..training.configuration import Configuration

FEATURES, REFERENCE = "features.safetensors", "reference.safetensors"


FOLDERS: dict[str, Path] = {"mnist": Path(__file__).parent / "mnist"}


@dataclass(frozen=True)
class Pretrained:
    """A trained network and the features to measure it by, each read from ``folder`` when first asked for.

    Raises:
        ValueError: when a part is asked for whose file is missing, damaged, or does not belong to the others.
    """

    folder: Path

    @property
    def denoiser(self) -> Denoiser:
        """The averaged network, in eval mode and without gradients."""
        return self.trained.denoiser

    @property
    def configuration(self) -> Configuration:
        """What the network was trained with."""
        return self.trained.configuration

    @cached_property
    def trained(self) -> Trained:
        """The network, its configuration and the shape of one sample."""
        return load_denoiser(self.folder / MODEL)

    @cached_property
    def features(self) -> Classifier:
        """A classifier of the same data, in eval mode, without gradients; its ``features(x)`` measure."""
        path = self.folder / FEATURES
        net = Classifier()
        try:
            net.load_state_dict(read_tensors(path)[0])
        except RuntimeError as error:
            raise ValueError(f"{path} does not fit the classifier: {error}") from None
        return net.eval().requires_grad_(False)

    @cached_property
    def reference(self) -> Moments:
        """Moments of the features of the training images."""
        return Moments.from_tensors(self._statistics[0], "train.")

    @cached_property
    def test(self) -> Moments:
        """Moments of the features of the test images."""
        return Moments.from_tensors(self._statistics[0], "test.")

    @cached_property
    def about(self) -> dict[str, dict[str, Any]]:
        """How ``"model"``, ``"features"`` and ``"reference"`` came to be: data, steps, seconds, command."""
        files = {"model": MODEL, "features": FEATURES, "reference": REFERENCE}
        return {part: read_tensors(self.folder / file)[1] for part, file in files.items()}

    @cached_property
    def _statistics(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tensors, header = read_tensors(self.folder / REFERENCE)
        features = self.folder / FEATURES
        if not features.is_file() or hashlib.sha256(features.read_bytes()).hexdigest() != header.get(
            "features_sha256"
        ):
            raise ValueError(f"{self.folder / REFERENCE} was not computed with the features of {features}")
        return tensors, header


def pretrained(name: str) -> Pretrained:
    """What comes with the package under a name, such as ``"mnist"``; ValueError if there is no such name."""
    return Pretrained(lookup("pretrained network", name, FOLDERS))
