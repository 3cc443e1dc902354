"""The task of a tuning: a network, its noise samples, and the keys of its saved files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition, mapped
from ..denoisers.modes import modules_of
from ..denoisers.protocol import DenoiserLike, unwatched
from ..plans.fingerprint import fingerprint, hash_of
from ..plans.tape import Solver
from ..processes.sde import SDE
from ..registry import lookup
from ..solvers.catalogue import SOLVERS
from ..solvers.integrators.base import Integrator
from ..spacings.measured import Measured
from .pairs import FeatureMap, Pairs, initial_pairs
from .progress import Progress
from .settings import Settings

SEED = 0x7475_6E65_0000_0000  # so that tuning shares no noise with sample() at a seed below 2^32
SCREEN_SAMPLES = 64  # noise samples on which all candidates are compared

Parts = tuple[Pairs, Pairs, Pairs]


@dataclass(eq=False)
class Task:
    """The arguments of :func:`scoresde.tuning.tune`, and the keys that distinguish tunings.

    ``network``, ``teacher_key`` and ``key`` (of the network, of its teacher, of the tuning) are taken when
    the task is made, so that counters and caches which calls change are no part of them.

    Args:
        denoiser: the network.
        draft: the network for screening; may be ``denoiser`` itself.
        feature_map: maps samples to the features in which errors are measured.
        levels: levels measured on the network, if there are any.
        nfe: network calls.
        shape: of one sample.
        cond: conditions ``(K, ...)``; noise sample i has condition i mod K.
        seed: of the noise.
        settings: of the tuning.
        batch_size: samples in one network call.
        device: of the state.
        progress: observes all calls of ``denoiser`` and ``draft``.
    """

    denoiser: DenoiserLike
    draft: DenoiserLike
    feature_map: FeatureMap | None
    levels: Measured | None
    nfe: int
    shape: tuple[int, ...]
    cond: Condition
    seed: int
    settings: Settings
    batch_size: int
    device: torch.device
    progress: Progress
    network: dict[str, str] = field(init=False)
    teacher_key: str = field(init=False)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.network = fingerprint(unwatched(self.denoiser))
        cond = mapped(Tensor.tolist, self.cond)
        draft = self.network if self.draft is self.denoiser else fingerprint(unwatched(self.draft))
        feature_map = None if self.feature_map is None else hash_of(self.feature_map)
        self.teacher_key = _hash(self.network, self.shape, cond, self.seed, self.settings.sizes)
        self.key = _hash(self.teacher_key, draft, feature_map, self.levels, self.nfe, self.settings)

    @property
    def sde(self) -> SDE:
        """The process of the network."""
        return self.denoiser.sde

    @property
    def solvers(self) -> Mapping[str, Solver | Integrator]:
        """The stock solvers to compare."""
        names = self.settings.solvers
        return {name: lookup("solver", name, SOLVERS) for name in names} if names else SOLVERS

    def initial_pairs(self) -> Pairs:
        """The initial states of all parts. The targets are not known yet: x stands in their place."""
        ids = torch.arange(sum(self.settings.sizes))
        return initial_pairs(self.sde, self.shape, self.cond, self.seed + SEED, ids, self.device)

    def parts(self, pairs: Pairs) -> Parts:
        """The pairs to fit on, to validate with, and to decide with."""
        a, b, c = accumulate(self.settings.sizes)
        return pairs[:a], pairs[a:b], pairs[b:c]


def check_network(denoiser: DenoiserLike, x: Tensor, cond: Condition) -> None:
    """Check that a network is finite and deterministic at the first level of its process.

    Args:
        denoiser: the network.
        x: a few initial states ``(B, ...)``.
        cond: conditions ``(B, ...)``, if there are any.

    Raises:
        ValueError: the network is in training mode, or two equal calls differ.
        FloatingPointError: its output is not finite.
    """
    # A container in training mode does no harm if its children are in eval mode.
    modules = [one for part in modules_of(unwatched(denoiser)) for one in part.modules()]
    if any(module.training and not list(module.children()) for module in modules):
        raise ValueError("the network is in training mode; call its eval() first")
    level = denoiser.sde.level_at(denoiser.sde.t_max)
    first, second = (denoiser(x, level, cond) for _ in range(2))
    if not torch.isfinite(first).all():
        raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
    if not torch.equal(first, second):
        raise ValueError(
            "two calls of the network with the same input differ: is there dropout or noise in it?"
        )


def variance_of(target: Tensor) -> float:
    """The variance over samples, averaged over coordinates."""
    return float((target - target.mean(0)).square().mean())


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
