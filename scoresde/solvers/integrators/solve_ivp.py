"""The probability-flow ODE by SciPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN, Level
from ...processes.sde import SDE
from ...spacings.formulas import Spacing
from .base import Integration, Integrator, build_grid, limited
from .flow import ROOT, flow_points, flow_slope, unit

# The methods of scipy, and the options that say that samples do not depend on one another: an implicit method
# then finds its Jacobian by as many calls as one sample has numbers.
SCIPY: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "RK23": lambda samples, size: {},
    "RK45": lambda samples, size: {},
    "DOP853": lambda samples, size: {},
    "Radau": lambda samples, size: {"jac_sparsity": _blocks(samples, size)},
    "BDF": lambda samples, size: {"jac_sparsity": _blocks(samples, size)},
    "LSODA": lambda samples, size: {"lband": size - 1, "uband": size - 1},
}


@dataclass(frozen=True)
class SciPy(Integrator):
    """The probability-flow ODE by ``scipy.integrate.solve_ivp``, in float64 on the host: a reference.

    The equation is that of :class:`ODE`, dy / du = eps - x_0, in steps of sqrt(u). The state is float64,
    whatever the type of x; the network is called in the type and on the device of x. RK45 at tolerances of
    1e-5 is the ODE sampler of Song et al. 2021 (arXiv 2011.13456, appendix D.4); theirs steps in t. Virtanen
    et al. 2020 (arXiv 1907.10121) describe scipy.

    The error of a step is a mean over all samples: a sample depends, within the tolerance, on the samples
    beside it. ``nfe`` is a limit or None; a run that needs more calls stops with RuntimeError.

    Args:
        method: RK23, RK45, DOP853 (explicit; orders 3, 5, 8), Radau, BDF (implicit), LSODA (implicit where
            the ODE is stiff). The implicit methods find a Jacobian by differences: use them with a float64
            network and few dimensions.
        rtol: relative tolerance on y, which is x itself at the clean end.
        atol: absolute tolerance on y.
    """

    method: str = "RK45"
    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if self.method not in SCIPY:
            raise ValueError(f"method must be one of {', '.join(SCIPY)}, got {self.method!r}")
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol!r} and {self.atol!r}")

    def prepare(
        self, sde: SDE, nfe: int | None, spacing: Spacing | str | None = None, *, to_clean: bool = False
    ) -> Integration:
        """The run between the ends of the spacing."""
        grid = build_grid(sde, spacing)
        first, last = grid.levels[0], grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            from scipy.integrate import solve_ivp

            denoise = limited(denoise, nfe, self)

            def network(y: Tensor, level: Level[float]) -> Tensor:
                d: Tensor = denoise(y.to(x), level).cpu().double()
                if not d.isfinite().all():  # scipy would shorten the step until it gives up
                    raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
                return d

            slope = flow_slope(grid, network, ROOT)
            begin, *_, end = flow_points(grid, ROOT)
            path = solve_ivp(
                lambda v, y: slope(v, torch.from_numpy(y).reshape(x.shape)).flatten().numpy(),
                (begin, end),
                (x.cpu().double() / unit(first)).flatten().numpy(),
                method=self.method,
                rtol=self.rtol,
                atol=self.atol,
                **SCIPY[self.method](len(x), x[0].numel()),
            )
            if not path.success:
                raise FloatingPointError(f"{self} gave up before its end: {path.message}")
            x = (unit(last) * torch.from_numpy(path.y[:, -1])).reshape(x.shape).to(x)
            return denoise(x, last) if to_clean else x

        return Integration(first, CLEAN if to_clean else last, None, integrate)


def _blocks(samples: int, size: int) -> Any:
    """The entries of a Jacobian that may differ from 0: one block per sample."""
    from scipy.sparse import identity, kron

    return kron(identity(samples), torch.ones(size, size).numpy())
