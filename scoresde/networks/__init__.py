"""Networks to start with. A solver works with any other callable ``(x, t[, cond])`` as well."""

from torch import nn

from .mlp import MLP
from .unet import UNet

__all__ = ["MLP", "NETWORKS", "UNet"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": MLP}
