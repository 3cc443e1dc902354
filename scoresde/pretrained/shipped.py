"""The included networks, with the features and statistics that measure their samples."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..denoisers.network import Denoiser
from ..files import read_tensors
from ..metrics.moments import Moments
from ..networks.classifier import Classifier
from ..plans.plan import Plan
from ..registry import lookup
from ..sampling.tuned import SHIPPED, plan_file
from ..spacings.measured import Measured
from ..training.checkpoint import MODEL, Trained, load_denoiser
from ..training.configuration import Configuration
from ..training.levels import levels_file

FEATURES, REFERENCE = "features.safetensors", "reference.safetensors"

FOLDERS: dict[str, Path] = {SHIPPED.name: SHIPPED}


@dataclass(frozen=True)
class Pretrained:
    """A trained network, its measured levels and tuned plans, and the features that measure its samples.

    Each part is read from ``folder`` at its first use.

    Args:
        folder: of the files; ``MODEL_CARD.md`` there describes them.

    Raises:
        ValueError: at the first use of a part whose file is missing or damaged, or does not fit the others.
    """

    folder: Path

    def plan(self, nfe: int) -> Plan:
        """The tuned plan of ``nfe`` network calls; ValueError if there is no plan of so many calls."""
        return Plan.load(plan_file(self.folder, nfe))

    @property
    def denoiser(self) -> Denoiser:
        """The averaged network, in eval mode and without gradients."""
        return self.trained.denoiser

    @property
    def configuration(self) -> Configuration:
        """The configuration that the network was trained with."""
        return self.trained.configuration

    @cached_property
    def trained(self) -> Trained:
        """The network, its configuration and the shape of one sample."""
        return load_denoiser(self.folder / MODEL)

    @cached_property
    def levels(self) -> Measured:
        """The levels and the solver that were measured on the network, for each number of calls."""
        return Measured.load(levels_file(self.folder))

    @cached_property
    def features(self) -> Classifier:
        """A classifier of the same data, in eval mode and without gradients."""
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
        """How ``"model"``, ``"features"`` and ``"reference"`` were made: data, steps, seconds, command."""
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
    """An included network, by name: ``"mnist"``; ValueError for an unknown name."""
    return Pretrained(lookup("pretrained network", name, FOLDERS))
