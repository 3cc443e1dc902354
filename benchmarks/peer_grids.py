"""The grids of other projects: those of their papers, their functions and their schedules.

Each has the ends of the run. A grid of another process has the same sigma / alpha: no project offers this,
so the best peer on all grids is stronger than any user has it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.processes.continuous import EDM, VPSDE, Cosine, RectifiedFlow
from scoresde.processes.sde import SDE
from scoresde.spacings import (
    AlignYourSteps,
    Beta,
    Karras,
    PowerTime,
    QuadraticTime,
    Spacing,
    Under,
    UniformLambda,
    UniformSigma,
    UniformTime,
)


@dataclass(frozen=True)
class Stretched:
    """The inner levels of a list of levels, between the ends of the run.

    Raises:
        ValueError: when used, a list with an inner level beyond the ends.
    """

    spacing: Spacing

    def __call__(self, sde: SDE, n: int) -> Tensor:
        times = self.spacing(WIDE, n)
        (first, last), inner = sde.lam_ends(), WIDE.lam(times)[1:-1]
        if not torch.all((inner > first) & (inner < last)):
            raise ValueError(f"{self.spacing} must have its levels inside {sde}")
        return _between(sde, inner)


@dataclass(frozen=True)
class FlowShifted:
    """Equal steps in the time of rectified flow, and then sigma / alpha ``shift`` times as large.

    t' = shift t / (1 + (shift - 1) t): the option ``flow_shift`` of diffusers, with the ends of the run.
    """

    shift: float

    def __call__(self, sde: SDE, n: int) -> Tensor:
        by = math.log(self.shift)
        first, last = sde.lam_ends()
        flow = RectifiedFlow(1e-9, 1.0).clip(first + by, last + by)
        return _between(sde, flow.lam(UniformTime()(flow, n))[1:-1] - by)


def _between(sde: SDE, inner: Tensor) -> Tensor:
    ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
    return torch.cat([ends[:1], sde.time_of(inner), ends[1:]])


# Wide enough for every run.
WIDE, VP, COSINE = EDM(1e-4, 1e4), VPSDE(t_min=1e-6), Cosine(1e-6, 0.9999)
FLOW = RectifiedFlow(1e-6, 1.0)
OF_ANY: dict[str, Spacing] = {
    "uniform lambda": UniformLambda(),
    **{f"karras {rho}": Karras(rho) for rho in (3, 5, 7, 9)},
    "uniform sigma": UniformSigma(),
    "beta in sigma": Under(Beta(), WIDE),
    **{f"align your steps {model}": Stretched(AlignYourSteps(model)) for model in ("sd15", "sdxl", "svd")},
}
OF_VP: dict[str, Spacing] = {
    "uniform t of vp": Under(UniformTime(), VP),
    "quadratic t of vp": Under(QuadraticTime(), VP),
    "beta in t of vp": Under(Beta(), VP),
    "uniform t of cosine": Under(UniformTime(), COSINE),
}
OF_FLOW: dict[str, Spacing] = {
    **{f"t of flow, shift {shift:g}": FlowShifted(shift) for shift in (1, 1.5, 2, 3, 5, 8)},
    "beta in t of flow": Under(Beta(), FLOW),
    "karras 7 in t of flow": Under(PowerTime(7), FLOW),
}
GRIDS = OF_ANY | OF_VP | OF_FLOW
# The grids that the other projects have for each process.
OWN: dict[str, dict[str, Spacing]] = {
    "edm": OF_ANY,
    "vp": OF_ANY | OF_VP,
    "rectified-flow": OF_ANY | OF_FLOW,
}
