"""The warning of unstable runs: it is given where samples spread far beyond the data, and nowhere else."""

import math
import re
import warnings
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import (
    EDM,
    SDE,
    SOLVERS,
    VPSDE,
    ExactDenoiser,
    Karras,
    Mixture,
    Plan,
    RectifiedFlow,
    UniformLambda,
    prepare,
    sample,
    solver_of,
)
from scoresde.plans.growth import DEVIATIONS, exact_deviation, growth, normal_gain
from scoresde.sampling.stability import LIMIT, InstabilityWarning, growth_of
from scoresde.solvers import DDIM
from scoresde.solvers.integrators.base import Integration
from scoresde.spacings import Spacing
from tests.problems import TOLERANT

# sigma / alpha from 80 to 0.002, as the problems of benchmarks/.
LAMS = -math.log(80), -math.log(0.002)
FLOW = RectifiedFlow().clip(*LAMS)


def even_in_flow(sde: SDE, n: int) -> Tensor:
    """Equal steps in sqrt(u), u = r / (1 + r), r = sigma / alpha."""
    first, last = (1 / math.sqrt(1 + math.exp(lam)) for lam in sde.lam_ends())
    u = torch.linspace(first, last, n + 1, dtype=torch.float64) ** 2
    times = sde.time_of(torch.log(1 / u - 1))
    times[0], times[-1] = sde.t_max, sde.t_min
    return times


SPACINGS: tuple[Spacing, ...] = (UniformLambda(), Karras(), even_in_flow)


class Normal:
    """The denoiser of normal data of three components."""

    def __init__(self, sde: SDE) -> None:
        self.sde = sde

    def __call__(self, x: Tensor, level: Any, cond: object = None) -> Tensor:
        return normal_gain(level, torch.tensor(DEVIATIONS, dtype=x.dtype) ** 2) * x


@pytest.mark.parametrize(
    ("name", "nfe", "other"),
    [("seeds-2", 10, "er-sde-3"), ("seeds-3", 20, "er-sde-3"), ("sde-dpm-1", 5, "er-sde-3"),
     ("heun", 5, "auto"), ("torchsde:method=heun", 10, "er-sde-3"),
     ("torchsde:method=srk", 10, "er-sde-3")],
)  # fmt: skip
def test_a_run_that_is_unstable_is_said_to_be_when_it_is_planned(name: str, nfe: int, other: str) -> None:
    """Once, with the caller's line, by prepare and by sample; samples of normal data spread as it says."""
    sde = EDM()
    with pytest.warns(InstabilityWarning) as caught:
        run = prepare(name, sde, nfe)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    said = str(caught[0].message)
    found = re.fullmatch(
        rf"{re.escape(name)} is unstable with {run.nfe} network calls on these levels: on normal data of "
        r"deviations 1/2 to 1/10, the deviation of its samples is (\S+) times that of the data; use more "
        rf"calls, another spacing, or another solver, such as {other}",
        said,
    )
    assert found
    with pytest.warns(InstabilityWarning) as caught:
        x = sample(Normal(sde), name, (3000, 3), nfe=nfe, batch_size=1000, seed=5, dtype=torch.float64)
    assert [(str(one.message), one.filename) for one in caught] == [(said, __file__)]
    spread = x.square().mean(0).sum().sqrt().item() / exact_deviation(run.end, DEVIATIONS)
    # 400 samples tell a deviation to 3.5 %, and the message has two digits.
    assert float(found[1]) == pytest.approx(spread, rel=0.15)


def test_a_solver_is_named_as_the_library_names_it() -> None:
    for given, named in ((SOLVERS["seeds-2"], "seeds-2"), (solver_of("churn:solver=seeds-2"), "Churn(")):
        with pytest.warns(InstabilityWarning, match=rf"^{re.escape(named)}"):
            prepare(given, "edm", 8)


@pytest.mark.filterwarnings("error")
def test_what_is_planned_already_is_not_said_again() -> None:
    """Nor is anything in the loop; a plan by its own functions says nothing."""
    plan = Plan.within(8, solver_of("seeds-2"), EDM())  # type: ignore[arg-type]
    assert growth(plan) > LIMIT
    sample(Normal(EDM()), plan, (2, 3))
    assert growth_of(DDIM(), prepare("dpm-adaptive-23", EDM(), 50)) is None  # steps by a tolerance
    assert growth_of(solver_of("torchsde"), prepare("torchsde", EDM(), 101)) is None


@cache
def mixtures() -> tuple[Mixture, Mixture]:
    """Those of benchmarks/: eight modes on a circle, and 32 in 64 dimensions."""
    turn = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    circle = 0.8 * torch.stack([turn.cos(), turn.sin()], 1)
    means = 0.5 * torch.randn(32, 64, generator=torch.Generator().manual_seed(64), dtype=torch.float64)
    return of_modes(circle, 0.15), of_modes(means, 0.25)


def of_modes(means: Tensor, widest: float) -> Mixture:
    shares = torch.linspace(1, 2, len(means), dtype=torch.float64)
    stds = torch.linspace(0.05, widest, len(means), dtype=torch.float64)
    return Mixture(means, stds, shares / shares.sum())


def spread_of(mixture: Mixture, run: Plan | Integration, sde: SDE) -> float:
    """The RMS of samples, relative to that of the data."""
    mean, covariance = mixture.moments()
    rms = (mean.square() + covariance.diagonal()).mean().sqrt().item()
    x = sample(ExactDenoiser(mixture, sde), run, (200, len(mean)), dtype=torch.float64)
    return x.square().mean().sqrt().item() / rms


# Stock solvers of a known number of calls, and integrators' methods of fixed steps.
NAMES = [name for name in SOLVERS if name not in (*TOLERANT, "parallel", "ode")]
NAMES += ["torchsde:method=heun", "torchsde:method=srk", "ode:method=midpoint", "ode:method=heun2"]
# Extrapolation over four outputs: it spreads by the bends of the network, which normal data do not have.
BENT = ("adams",)


@pytest.mark.parametrize("name", NAMES)
def test_the_warning_is_given_where_samples_spread_and_nowhere_else(name: str) -> None:
    """On mixtures, whose denoisers are not linear: no alarm where samples of both have less than 1.15 times
    the spread of the data, and one wherever those of the first have 4 times of it."""
    two, many = mixtures()
    for sde, spacing, nfe in product((EDM(), VPSDE().clip(*LAMS)), SPACINGS, (5, 10, 20)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = prepared_for(name, sde, nfe, spacing)
        if run is None:
            continue
        spread = spread_of(two, run, sde)
        if caught:
            assert max(spread, spread_of(many, run, sde)) > 1.15, (sde, spacing, nfe)
        else:
            assert spread < 4 or name in BENT, (sde, spacing, nfe)


def prepared_for(name: str, sde: SDE, nfe: int, spacing: Spacing) -> Plan | Integration | None:
    """The run within a budget; None if the solver needs more calls."""
    try:
        return prepare(name, sde, nfe, spacing)
    except ValueError as error:
        if "nfe must be at least" not in str(error):
            raise
        return None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
def test_no_alarm_with_many_calls(name: str) -> None:
    """100 calls, on the levels on which the warnings end last; a warning is an error here."""
    for sde in (EDM(), FLOW):
        prepare(name, sde, 100, even_in_flow)


@pytest.mark.filterwarnings("error")
def test_the_solvers_that_are_named_in_place_of_others_are_stable() -> None:
    for name, sde, spacing in product(("er-sde-3", "dpmpp-2m"), (EDM(), VPSDE(), FLOW), SPACINGS):
        for nfe in range(2, 21):
            prepare(name, sde, nfe, spacing)
