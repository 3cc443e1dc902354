"""The extent of a certificate: its problems, its numbers of steps, and the limits of every figure."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from known import SDES
from numpy.typing import NDArray

from scoresde import SDE, Karras, UniformLambda, UniformTime
from scoresde.solvers.integrators.ode import FIXED, ODE
from scoresde.spacings import Spacing

Record = dict[str, Any]
Array = NDArray[np.float64]

# Wrong weights for uneven steps do not show on equal steps in lambda; no two steps of karras are equal.
PROBLEMS: dict[str, tuple[SDE, Spacing]] = {
    **{name: (sde, UniformLambda()) for name, sde in SDES.items()},
    "vp karras": (SDES["vp"], Karras()),
}
# Spacings and endings (t_min, sigma = 0) for the point mass: an even grid and very uneven ones.
ENDS = tuple(product((UniformLambda(), Karras(), UniformTime()), (False, True)))

# Certified beside the registry: Adams methods of high order. A start from a single output would hide the
# order; the iterated start does not. At order 6 rounding begins before the mixture shows more than 5.8.
ITERATED = (
    *(f"adams:predictor={p},start=iterated" for p in (3, 4, 5)),
    "adams:predictor=3,corrector=4,start=iterated",
    "deis:predictor=4,start=iterated",
    "velocity-adams:predictor=4,start=iterated",
    "unipc:predictor=4,corrector=5,start=iterated",
)


@dataclass(frozen=True)
class Depth:
    """How far a certificate goes.

    Args:
        problems: names in PROBLEMS.
        ladder: numbers of steps, each twice the one before.
        swept: the problems with a sweep.
        sweep: the numbers of steps of a sweep.
    """

    problems: tuple[str, ...]
    ladder: tuple[int, ...]
    swept: tuple[str, ...]
    sweep: tuple[int, ...]


FULL = Depth(tuple(PROBLEMS), (20, 40, 80, 160, 320), tuple(SDES), (*range(1, 31), 50, 100, 250, 1000))
QUICK = Depth(("vp karras", "edm"), (20, 40, 80, 160), ("vp karras", "edm"), (1, 2, 3, 5, 10, 100))
BUDGETS = (5, 10, 20, 50)
TIGHTER = (1, 10, 1000)  # an adaptive solver's ladder: its own tolerance divided by these

BELOW = 0.2  # a measured order may be less than the claim by this
BEYOND = 1.5  # more than the claim by this: too few steps for a judgement, so the ladder goes on
LONGEST = 640  # steps: the end of the ladder
FLOOR = 1e-11  # relative error below which rounding and the error of the reference show
EXACT = 1e-10  # for the identity: rounding grows with the weights, which reach 1e4 on the most uneven grids
ROUNDING = 1e-5  # of a whole run in float32
FEW = 20  # with fewer steps, weights and errors may be so large that float32 may be off by more
PER_TOLERANCE = 100  # the error of an adaptive run, in tolerances of a step: a run has tens of steps
FALLS = 32  # least ratio of the errors at the first and the last tolerance: the root of their ratio, 1000
SAMPLES = 2000  # for laws that must be sampled: an adaptive solver's steps depend on the noise
STANDARD_ERRORS = 4  # of a mean or a deviation of SAMPLES samples: the range of chance
# Between two forms of one denoiser: some hundred roundings, times 1 / alpha = 150 or sigma = 80.
SAME = 1e-9

# Solvers that do not carry a point mass exactly, by class, and why. All others must.
NO_IDENTITY: dict[str, str] = {
    "EulerMaruyama": "Euler in t keeps the drift constant in a step, but on a point mass it changes",
    "ReverseDiffusion": "its mean inverts the forward step, which is right to first order",
    "PredictorCorrector": "its predictor is reverse diffusion, and a Langevin step leaves another deviation",
    "TorchSDE": "explicit steps in t, like Euler-Maruyama",
    "SDEDPMSolver": "its estimate of the noise changes with every draw, even on a point mass",
    "AdaptiveSDE": "like Euler-Maruyama",
    "SciPy": "a point mass is a parabola in its variable, which it follows within the tolerance",
    "ODE": "with a method of adaptive steps, like SciPy",
    "SEEDS": "like SDE-DPM-Solver, it interpolates the noise",
}


def no_identity(solver: object) -> str | None:
    """Why a solver does not carry a point mass exactly; None if it must."""
    fixed = isinstance(solver, ODE) and solver.method in FIXED
    return None if fixed else NO_IDENTITY.get(type(solver).__name__)


def sde_name(problem: str) -> str:
    """The name of a problem's SDE: "vp karras" is on "vp"."""
    return problem.split()[0]
