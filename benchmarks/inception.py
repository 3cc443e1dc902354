"""The features of the standard FID: torch-fidelity's Inception network (optional extra ``inception``)."""

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn


def inception_features(weights: Path | None) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network, and the function from pixels ``(B, 1 or 3, H, W)`` to features ``(B, 2048)``.

    These are the features of FID: Heusel et al. 2017, arXiv 1706.08500.

    Args:
        weights: ``weights-inception-2015-12-05-6726825d.pth`` from torch-fidelity's releases; download it
            yourself.

    Raises:
        ValueError: torch-fidelity is not installed; the weights are missing or hold more than tensors.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(f"--features inception needs: pip install scoresde[inception] ({error})") from None
    if weights is None or not weights.is_file():
        raise ValueError(
            f"--inception-weights must be weights-inception-2015-12-05-6726825d.pth of torch-fidelity, "
            f"got {weights}"
        )
    try:
        # torch-fidelity unpickles any file; this call refuses a file with other things than tensors.
        torch.load(weights, map_location="cpu", weights_only=True)
        network = FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=str(weights)
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"--inception-weights {weights} cannot be used: {str(error).splitlines()[0]}"
        ) from None

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        found: Tensor = network(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)[0]
        return found

    return network, features
