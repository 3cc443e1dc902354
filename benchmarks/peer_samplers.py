"""Every deterministic sampler of k-diffusion, diffusers and azula with its options, and all their grids.

Samplers that are one method under several names stand here once: tests/benchmarks/peer_methods.py says which
are. SA-Solver without noise is UniPC where its corrector has one output more than its predictor; LMS is the
same in all three; the schedulers of diffusers for EDM and for flows are those of the same names without.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from typing import Any

import torch
from peers import Peer, azula, diffusers, k_diffusion
from torch import Tensor

PROJECTS: dict[str, Callable[..., Peer]] = {
    "k-diffusion": k_diffusion,
    "diffusers": diffusers,
    "azula": azula,
}
STEPS = "steps"  # among the options: replaced by the number of steps


@dataclass(frozen=True)
class PeerSampler:
    """A sampler of another project with its options.

    Args:
        project: in PROJECTS.
        name: of the function, sampler or scheduler.
        options: of it.
        calls: network calls in a step.
        more: network calls beside these.
        least: the fewest steps.
        multiple: it takes only multiples of this number of steps.
        own_levels: it takes only the two ends of a grid.
    """

    project: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 1
    more: int = 0
    least: int = 1
    multiple: int = 1
    own_levels: bool = False

    @cached_property
    def label(self) -> str:
        """Its name in tables and lines; two samplers have two names."""
        name = self.name.removeprefix("sample_").removesuffix("Scheduler").removesuffix("Sampler")
        given = [_shown(key, value) for key, value in self.options.items() if value is not False]
        return f"{self.project} {name}" + (f"({', '.join(given)})" if given else "")

    def steps(self, calls: int) -> int:
        """The steps that use so many network calls, or a few less; 0 if there are none."""
        steps = (calls - self.more) // self.calls
        return steps if steps >= self.least and steps % self.multiple == 0 else 0

    def peer(self, steps: int) -> Peer:
        """The sampler as a function; ModuleNotFoundError if its project is not installed."""
        options = {key: steps if value == STEPS else value for key, value in self.options.items()}
        return PROJECTS[self.project](self.name, **options)


def _shown(key: str, value: Any) -> str:
    if value is True:
        return key
    return str(value) if isinstance(value, str | Tau) else f"{key}={value}"


@dataclass(frozen=True)
class Tau:
    """The scale of the noise of SA-Solver at every time."""

    tau: float

    def __call__(self, t: Any) -> Tensor:
        return torch.tensor(self.tau)

    def __str__(self) -> str:
        return f"tau={self.tau:g}"


def versions() -> dict[str, str]:
    """The versions of the projects that are installed."""
    found = {}
    for project in PROJECTS:
        try:
            found[project] = version(project)
        except PackageNotFoundError:
            continue
    return found


def samplers() -> list[PeerSampler]:
    """All samplers, whether their project is installed or not."""
    return [*_k_diffusion(), *_diffusers(), *_azula()]


def _k_diffusion() -> Iterator[PeerSampler]:
    make = partial(PeerSampler, "k-diffusion")
    yield make("sample_euler")
    yield make("sample_heun", calls=2)
    yield make("sample_dpm_2", calls=2)
    for ratio in (0.3, 0.5, 0.7):
        yield make("sample_dpmpp_sde", {"eta": 0.0, "r": ratio}, calls=2)
    for order in (2, 3, 4, 5, 6):
        yield make("sample_lms", {"order": order})
    yield make("sample_dpmpp_2m")
    yield make("sample_dpmpp_2m_sde", {"eta": 0.0, "solver_type": "heun"})
    yield make("sample_dpmpp_3m_sde", {"eta": 0.0})
    yield make("sample_dpm_fast", {"n": STEPS}, own_levels=True)
    for order, rtol in product((2, 3), (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 1.0, 2.0, 5.0)):
        yield make("sample_dpm_adaptive", {"order": order, "rtol": rtol}, own_levels=True)


LOWER = {"lower_order_final": True}
ENDINGS: tuple[dict[str, Any], ...] = ({"lower_order_final": False}, LOWER)
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}


def _diffusers() -> Iterator[PeerSampler]:
    make = partial(PeerSampler, "diffusers")
    yield make("PNDMScheduler", more=9, least=4)
    yield make("PNDMScheduler", {"skip_prk_steps": True}, more=1, least=2)
    yield make("IPNDMScheduler")
    for order in (2, 3):  # the other ending is zEAB of azula
        yield make("DEISMultistepScheduler", {"solver_order": order} | LOWER)
    for order, algorithm, form in product((2, 3), ("dpmsolver++", "dpmsolver"), ("midpoint", "heun")):
        given = {"solver_order": order, "algorithm_type": algorithm, "solver_type": form} | SIGMA_MIN
        for end in (*ENDINGS, ENDINGS[0] | {"euler_at_final": True}):  # to "zero" is one of the last two
            yield make("DPMSolverMultistepScheduler", given | end)
        yield make("DPMSolverSinglestepScheduler", given | LOWER, least=order)
        yield make("DPMSolverSinglestepScheduler", given | ENDINGS[0], multiple=order)
    for order, form, data, end in product((1, 2, 3, 4, 5), ("bh1", "bh2"), (True, False), ENDINGS):
        given = {"solver_order": order, "solver_type": form, "predict_x0": data} | SIGMA_MIN
        yield make("UniPCMultistepScheduler", given | end)
    for order, on, end in product((2, 3, 4), ("data_prediction", "noise_prediction"), ENDINGS):
        given = {"predictor_order": order, "corrector_order": order, "algorithm_type": on}
        yield make("SASolverScheduler", given | end | {"tau_func": Tau(0.0)})


def _azula() -> Iterator[PeerSampler]:
    for name in ("vABSampler", "zEABSampler", "xEABSampler", "REABSampler"):
        for order in (2, 3, 4, 5, 6):
            yield PeerSampler("azula", name, {"order": order})


def noisy_samplers() -> Iterator[PeerSampler]:
    """The samplers with noise, of all projects."""
    make = partial(PeerSampler, "k-diffusion")
    for eta in (0.3, 0.5, 1.0):
        yield make("sample_euler_ancestral", {"eta": eta})
        yield make("sample_dpmpp_2s_ancestral", {"eta": eta}, calls=2)
        yield make("sample_dpm_2_ancestral", {"eta": eta}, calls=2)
        yield make("sample_dpmpp_sde", {"eta": eta}, calls=2)
        yield make("sample_dpmpp_3m_sde", {"eta": eta})
        for form in ("midpoint", "heun"):
            yield make("sample_dpmpp_2m_sde", {"eta": eta, "solver_type": form})
    make = partial(PeerSampler, "diffusers")
    for order, algorithm in (*product((1, 2, 3), ("sde-dpmsolver++",)), *product((1, 2), ("sde-dpmsolver",))):
        for end in ENDINGS:
            given = {"solver_order": order, "algorithm_type": algorithm} | SIGMA_MIN
            yield make("DPMSolverMultistepScheduler", given | end)
    for order, more, end, tau in product((1, 2, 3), (0, 1), ENDINGS, (0.2, 0.4, 0.6, 1.0)):
        given = {"predictor_order": order, "corrector_order": order + more, "tau_func": Tau(tau)}
        yield make("SASolverScheduler", given | end)
    for eta in (0.25, 0.5):
        yield PeerSampler("azula", "DDIMSampler", {"eta": eta})
        yield PeerSampler("azula", "ItoSampler", {"eta": eta})
    yield PeerSampler("azula", "ItoSampler")
