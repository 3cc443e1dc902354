"""Networks to start with; solvers know none of them, and any callable ``(x, t[, cond])`` plugs in as well."""

from torch import nn

from .mlp import MLP
from .unet import UNet

__all__ = ["MLP", "NETWORKS", "UNet"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": MLP}
