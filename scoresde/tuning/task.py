"""A tuning's task: a network, its noises, and the key by which tunings are distinguished."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from ..noise import Noise
from ..plans.fingerprint import fingerprint, hash_of
from ..plans.plan import Plan
from ..plans.tape import Solver
from ..processes.sde import SDE
from ..registry import lookup
from ..solvers.catalogue import SOLVERS
from ..solvers.first_order import DDIM
from ..solvers.integrators.base import Integrator
from .pairs import Map, Pairs
from .settings import Settings
from .watched import Watched

SEED = 0x7475_6E65_0000_0000  # so that tuning shares no noise with sample() at a seed below 2^32
FEW = 64  # noises, at least, of a part; that all stock solvers, and starts, are tried on

Parts = tuple[Pairs, Pairs, Pairs]


@dataclass(eq=False)
class Task:
    """What is asked of :func:`scoresde.tuning.tune`; its arguments are the fields.

    ``network``, ``teacher_key`` and ``key``, of the network, its teacher and the tuning, are taken when the
    task is made: what a denoiser counts or stores while it is called is no part of them.
    """

    denoiser: Watched
    draft: Watched
    perceive: Map | None
    nfe: int
    shape: tuple[int, ...]
    cond: Tensor | None
    seed: int
    settings: Settings
    batch_size: int
    device: torch.device
    network: dict[str, str] = field(init=False)
    teacher_key: str = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.network = fingerprint(self.denoiser.denoiser)
        cond = None if self.cond is None else self.cond.tolist()
        draft = self.network if self.draft is self.denoiser else fingerprint(self.draft.denoiser)
        maps = None if self.perceive is None else hash_of(self.perceive)
        self.teacher_key = _hash(self.network, self.shape, cond, self.seed, self.sizes)
        self.key = _hash(self.teacher_key, draft, maps, self.nfe, self.settings)

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    @property
    def solvers(self) -> Mapping[str, Solver | Integrator]:
        """Those that race."""
        names = self.settings.solvers
        return {name: lookup("solver", name, SOLVERS) for name in names} if names else SOLVERS

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many noises are for the fit, its validation, and the decision."""
        return self.settings.samples, -(-self.settings.samples // 2), self.settings.held_out

    def noises(self) -> Pairs:
        """The noises of all parts; the targets are not there yet."""
        ids = torch.arange(sum(self.sizes))
        times = torch.tensor(self.sde.t_max, dtype=torch.float64)
        sigma = self.sde.sigma(times).item()
        x = sigma * Noise(self.seed + SEED, ids.to(self.device), self.shape)(0)
        cond = None if self.cond is None else self.cond[ids % len(self.cond)].to(self.device)
        return Pairs(x, x, cond)

    def parts(self, pairs: Pairs) -> Parts:
        """Those of the fit, of its validation, and of the decision."""
        a, b, c = accumulate(self.sizes)
        return pairs[:a], pairs[a:b], pairs[b:c]

    def check(self, pairs: Pairs) -> None:
        """Refuse a network that is not finite, or not the same twice."""
        inner = self.denoiser.denoiser
        modules = [inner, getattr(inner, "net", None)]
        if any(isinstance(module, nn.Module) and _training(module) for module in modules):
            raise ValueError("the network is in training mode; call its eval() first")
        few = pairs[:FEW]
        level = Plan.make(DDIM(), self.sde, 1).start
        first, second = (self.denoiser(few.x, level, few.cond) for _ in range(2))
        if not torch.isfinite(first).all():
            raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
        if not torch.equal(first, second):
            raise ValueError(
                "two calls of the network with the same input differ: is there dropout or noise in it?"
            )


def variance_of(target: Tensor) -> float:
    """The mean over coordinates of the variance over samples."""
    return float((target - target.mean(0)).square().mean())


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _training(module: nn.Module) -> bool:
    """A container in training mode does no harm if everything in it is in eval mode."""
    return any(part.training for part in module.modules() if not list(part.children()))
