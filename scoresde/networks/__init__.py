"""Networks to start with. Solvers know none of them: any callable ``(x, t[, cond])`` plugs in the same way."""

from torch import nn

from .mlp import MLP
from .unet import UNet

__all__ = ["MLP", "NETWORKS", "UNet"]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "mlp": MLP}
