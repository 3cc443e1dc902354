"""The probability-flow ODE by SciPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...plans.executor import Denoise, Draw
from ...processes.level import CLEAN, Level
from ...processes.sde import SDE
from ...spacings.catalogue import steps_of
from ...spacings.formulas import Spacing
from ...spacings.grid import Grid
from .base import Integration, Integrator, _limited, begun
from .flow import _flow, _points

# scipy's methods, and what tells the implicit ones that samples do not depend on one another, so that a
# Jacobian of differences costs as many calls as one sample has numbers.
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

    The equation is that of :class:`ODE`, d(x / alpha) / dr = eps with r = sigma / alpha; the state is float64
    whatever the type of x, the network is asked in the type and on the device of x. RK45 at tolerances of
    1e-5 is the ODE sampler of Song et al. 2021 (arXiv 2011.13456, appendix D.4), theirs in t. Virtanen et al.
    2020 (scipy).

    Args:
        method: RK23, RK45, DOP853 (explicit; orders 3, 5, 8), Radau, BDF, LSODA (implicit, or where stiff).
            The implicit ones find a Jacobian by differences, which wants a float64 network and few
            dimensions.
        rtol: relative tolerance on x / alpha.
        atol: absolute tolerance on x / alpha. The error of a step is a mean over all samples: a sample
            depends, within the tolerance, on the samples beside it. ``nfe`` is a limit, beyond which the run
            stops with RuntimeError, or None.
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
        grid = begun(Grid.build(sde, steps_of(spacing) or 1, spacing), "scipy")
        first, last = grid.levels[0], grid.levels[-1]

        def integrate(denoise: Denoise, x: Tensor, noise: Draw) -> Tensor:
            from scipy.integrate import solve_ivp

            denoise = _limited(denoise, nfe, self)

            def network(y: Tensor, level: Level[float]) -> Tensor:
                d: Tensor = denoise(y.to(x), level).cpu().double()
                if not d.isfinite().all():  # scipy would shorten the step until it gives up, or raise its own
                    raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
                return d

            slope = _flow(grid, network)
            begin, end = _points(grid)[0], _points(grid)[-1]
            path = solve_ivp(
                lambda u, y: slope(u, torch.from_numpy(y).reshape(x.shape)).flatten().numpy(),
                (begin, end),
                (x.cpu().double() / first.alpha).flatten().numpy(),
                method=self.method,
                rtol=self.rtol,
                atol=self.atol,
                **SCIPY[self.method](len(x), x[0].numel()),
            )
            if not path.success:
                raise FloatingPointError(f"{self} gave up before its end: {path.message}")
            x = (last.alpha * torch.from_numpy(path.y[:, -1])).reshape(x.shape).to(x)
            return denoise(x, last) if to_clean else x

        return Integration(first, CLEAN if to_clean else last, None, integrate)


def _blocks(samples: int, size: int) -> Any:
    """Where a Jacobian may be other than 0, for samples that do not depend on one another."""
    from scipy.sparse import identity, kron

    return kron(identity(samples), torch.ones(size, size).numpy())
