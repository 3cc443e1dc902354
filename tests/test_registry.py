"""Entries of the registries as values: printed, compared, hashed, copied, pickled; lists in their options."""

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import nn

from scoresde import EDM, SOLVERS, VPSDE, Karras, Plan, UniformTime, predict, solver_of, spacing_of
from scoresde.denoisers.predictions import PREDICTIONS, prediction_of
from scoresde.networks import MLP, NETWORKS
from scoresde.processes import SDES, sde_of
from scoresde.solvers import Heun, Restart
from scoresde.spacings import (
    SPACINGS,
    AtLambdas,
    AtSigmas,
    AtTimes,
    Beta,
    Clipped,
    Joined,
    Polyexponential,
    PowerTime,
    Refined,
    Shifted,
)
from scoresde.training.time_sampling import TIME_SAMPLINGS
from scoresde.training.weighting import WEIGHTINGS
from tests.problems import TABLES

# The options of entries without defaults for all of them.
NEEDED: dict[str, dict[str, Any]] = {
    "at-times": {"times": [80.0, 1.0, 0.1]},
    "at-lambdas": {"lams": [-2.0, 0.0, 1.0]},
    "at-sigmas": {"sigmas": [3.0, 2.0, 1.0]},
    "joined": {"noisy": Karras(), "clean": UniformTime(), "lam": 0.0},
    "under": {"spacing": UniformTime(), "sde": SDES["edm"]()},
    "at-shares": {"u": [0.9, 0.5, 0.1], "shares": [0.0, 0.4, 1.0]},
}
REGISTRIES = {
    "solver": SOLVERS,
    "spacing": SPACINGS,
    "SDE": SDES,
    "prediction": PREDICTIONS,
    "time sampling": TIME_SAMPLINGS,
    "weighting": WEIGHTINGS,
}
ENTRIES = {
    f"{kind} {name}": entry(**NEEDED.get(name, {})) if isinstance(entry, type) else entry
    for kind, registry in REGISTRIES.items()
    for name, entry in registry.items()
    if name != "measured"  # a function of a file
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda entry: pickle.loads(pickle.dumps(entry)),
}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_each_entry_is_a_frozen_dataclass(entry: Any) -> None:
    assert is_dataclass(entry)
    name = fields(entry)[0].name if fields(entry) else "other"
    with pytest.raises(AttributeError):
        setattr(entry, name, 0)
    assert " at 0x" not in repr(entry)  # the address of an object says nothing to a reader
    assert repr(entry).startswith(f"{type(entry).__name__}(")


@each_copy
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_copies_of_each_entry_are_equal(entry: Any, copied: Callable[[Any], Any]) -> None:
    other = copied(entry)
    assert type(other) is type(entry)
    assert other == entry
    assert hash(other) == hash(entry)
    assert repr(other) == repr(entry)


@each_copy
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_can_be_copied(name: str, copied: Callable[[Any], Any]) -> None:
    assert issubclass(NETWORKS[name], nn.Module)
    net, x = MLP(2, 8, 1), torch.ones(3, 2)
    assert torch.equal(copied(net)(x, torch.ones(3)), net(x, torch.ones(3)))


@each_copy
@pytest.mark.parametrize("name", SDES)
def test_processes_can_be_copied_after_use(name: str, copied: Callable[[Any], Any]) -> None:
    """Use fills the caches of a process; a copy gives the same numbers."""
    sde = sde_of(name)
    t = torch.linspace(sde.t_min, sde.t_max, 7, dtype=torch.float64)
    x, level = torch.ones(7, 2, dtype=torch.float64), sde.level(t)
    other = copied(sde)
    assert other == sde
    for new, old in zip(other.level(t), level, strict=True):
        assert torch.equal(new, old)
    assert torch.equal(other.time_of(level.lam), sde.time_of(level.lam))
    assert all(torch.equal(a, b) for a, b in zip(other.marginal(x, t), sde.marginal(x, t), strict=True))
    assert (other.lam_ends(), other.level_at(sde.t_min)) == (sde.lam_ends(), sde.level_at(sde.t_min))


@pytest.mark.parametrize(
    ("of_integers", "of_floats", "printed"),
    [
        (Karras(7), Karras(7.0), "Karras(rho=7.0)"),
        (Polyexponential(2), Polyexponential(2.0), "Polyexponential(rho=2.0)"),
        (PowerTime(3), PowerTime(3.0), "PowerTime(exponent=3.0)"),
        (Beta(1, 2), Beta(1.0, 2.0), "Beta(a=1.0, b=2.0)"),
        (Shifted(Karras(5), 2), Shifted(Karras(5.0), 2.0), "Shifted(spacing=Karras(rho=5.0), shift=2.0)"),
        (
            Clipped(Karras(), -2, 1),
            Clipped(Karras(7.0), -2.0, 1.0),
            "Clipped(spacing=Karras(rho=7.0), lam_min=-2.0, lam_max=1.0)",
        ),
        (
            Joined(Beta(), UniformTime(), 0),
            Joined(Beta(), UniformTime(), 0.0),
            "Joined(noisy=Beta(a=0.6, b=0.6), clean=UniformTime(), lam=0.0, share=0.5)",
        ),
        (AtTimes([3, 2, 1]), AtTimes((3.0, 2.0, 1.0)), "AtTimes(times=(3.0, 2.0, 1.0))"),
        (AtSigmas([3, 1]), AtSigmas([3.0, 1.0]), "AtSigmas(sigmas=(3.0, 1.0))"),
        (AtLambdas([-1, 1]), AtLambdas([-1.0, 1.0]), "AtLambdas(lams=(-1.0, 1.0))"),
        (Refined(Karras(), 3), Refined(Karras(7.0), 3), "Refined(spacing=Karras(rho=7.0), parts=3)"),
        (predict.edm(1), predict.edm(1.0), "EDMPrediction(sigma_data=1.0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_integers_become_floats(of_integers: Any, of_floats: Any, printed: str) -> None:
    assert of_integers == of_floats
    assert hash(of_integers) == hash(of_floats)
    assert repr(of_integers) == repr(of_floats) == printed
    if callable(of_integers) and not isinstance(of_integers, predict.edm):
        steps = 2 if isinstance(of_integers, AtTimes) else 1
        assert torch.equal(of_integers(EDM(), steps), of_floats(EDM(), steps))


def test_numbers_of_torch_and_strings() -> None:
    assert repr(Karras(torch.tensor(5.0))) == "Karras(rho=5.0)"  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Karras("7")  # type: ignore[arg-type]


def test_lists_within_lists_are_options() -> None:
    built = solver_of("restart:intervals=[[0.5,1,2,1],[0.06,0.3,4,2]]")
    assert built == Restart(intervals=((0.5, 1.0, 2, 1), (0.06, 0.3, 4, 2)))
    assert solver_of("restart:solver=ddim,intervals=[[0.5,1,2,1]],s_noise=1.1") == Restart(
        SOLVERS["ddim"],  # type: ignore[arg-type]
        ((0.5, 1.0, 2, 1),),
        1.1,
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("restart:intervals=[[0.5,1,2,1],[0.06,0.3,4]]", "option intervals: "),
        ("restart:intervals=[0.5,1,2,1]", "option intervals: input should be a valid array, got [0.5, 1, 2,"),
        ("restart:intervals=[[0.5,1,2,1]", "option intervals: "),
        ("restart:intervals=[[1,0.5,2,1]]", "0 < rho_min < rho_max"),
    ],
)
def test_lists_of_another_form_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^solver 'restart'.*{re.escape(message)}"):
        solver_of(spec)


@pytest.mark.parametrize(
    ("make", "spec", "message"),
    [
        (spacing_of, "karras:rho=-1", "spacing 'karras': rho must be positive and finite, got -1.0"),
        (
            spacing_of,
            "karras:rho=[1]",
            "spacing 'karras' option rho: input should be a valid number, got [1]",
        ),
        (spacing_of, Karras, "spacing: Karras is a class; call it: Karras()"),
        (spacing_of, 7, "spacing must be a spacing, a function (sde, n) -> times such as Karras(), got 7"),
        (spacing_of, EDM(), "got EDM(t_min=0.002, t_max=80.0)"),
        (sde_of, Karras(5), "sde must be an SDE or its name, got Karras"),
        (prediction_of, "edm:sigma_data=0", "sigma_data must be positive and finite, got 0.0"),
    ],
)
def test_errors_print_entries_as_they_are_written(
    make: Callable[[Any], Any], spec: Any, message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        make(spec)


@pytest.mark.parametrize(
    "given",
    [
        "clipped:spacing=karras:rho=3",
        'clipped:spacing={"name":"karras","rho":3}',
        {"name": "clipped", "spacing": "karras:rho=3"},
        {"name": "clipped", "spacing": {"name": "karras", "rho": 3}},
        {"name": "clipped", "spacing": Karras(3.0)},
    ],
    ids=str,
)
def test_an_entry_inside_another_is_a_spec_a_mapping_or_an_object(given: Any) -> None:
    assert spacing_of(given) == Clipped(Karras(3.0))


@pytest.mark.parametrize(
    "given",
    [
        {"name": "churn", "solver": "heun"},
        {"name": "churn", "solver": {"name": "heun"}},
        {"name": "churn", "solver": Heun()},
    ],
    ids=str,
)
def test_a_solver_inside_another_is_a_spec_a_mapping_or_an_object(given: Any) -> None:
    assert solver_of(given) == SOLVERS["churn"]


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (
            spacing_of,
            "karras:rho=7,rho=8",
            "each option is given once; got rho twice in 'karras:rho=7,rho=8'",
        ),
        (spacing_of, {"rho": 3}, "spacing has no name; known: align-your-steps, at-lambdas"),
        (spacing_of, {"name": ["karras"]}, "unknown spacing ['karras']; "),
        (spacing_of, {"name": "karras", 3: 4}, "spacing 'karras' has no option 3; known: rho"),
        (
            spacing_of,
            {"name": "karras", "rho": torch.tensor(7.0)},
            "option rho: input should be numbers, text",
        ),
        (spacing_of, {"name": "clipped", "spacing": None}, "unknown spacing 'None'"),
        (spacing_of, "clipped:spacing=[1]", "unknown spacing '[1]'"),
        (solver_of, "adams:on=noise", "has no option 'on'; did you mean 'prediction'? known: corrector"),
        (solver_of, "unipc:two=bh1", "has no option 'two'; did you mean 'two_point_rule'? known: corrector"),
        (solver_of, "dpm-solver-v3:statistics=7", "7 holds no statistics of scoresde: "),
    ],
)
def test_faults_of_specs_and_mappings_are_named(make: Callable[[Any], Any], given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make(given)
    assert "\n" not in str(caught.value)


# Two papers have the same method: each name leads to it. "auto" takes a solver by the number of calls.
ONE_METHOD = {frozenset(pair) for pair in (("ddim", "dpm1"), ("lms", "ipndm-v"), ("auto", "velocity-p3c4"))}


def test_each_name_of_a_solver_is_another_run() -> None:
    plans = {name: Plan.make(SOLVERS[name], VPSDE(), 6) for name in TABLES}
    same = {frozenset(pair) for pair in combinations(plans, 2) if plans[pair[0]] == plans[pair[1]]}
    assert same == ONE_METHOD


def test_the_rule_in_the_name_of_unipc_is_its_rule() -> None:
    assert solver_of("unipc:two_point_rule=bh1") == SOLVERS["unipc-bh1"]
    assert solver_of("unipc-bh1:two_point_rule=bh2") == SOLVERS["unipc"]
