"""The limits for tuned solvers on each problem, and the settings that they are measured with."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import command
from problems import PROBLEMS

from scoresde.pretrained import FOLDERS
from scoresde.processes.catalogue import SDES
from scoresde.registry import lookup
from scoresde.solvers import SOLVERS
from scoresde.spacings import spacing_of

# FD to the converged samples, and RMSE to the converged ends; "fd" is the FD to the data.
MEASURES = ("fd_reference", "rmse")

# By problem, measure and calls: the largest ratio of a tuned solver to the best stock solver.
BARS: dict[str, dict[str, dict[int, float]]] = {
    "mnist": {
        "fd_reference": {4: 1 / 2, 5: 1 / 3, 6: 1 / 3, 8: 1 / 3, 10: 1 / 2},
        "rmse": dict.fromkeys((4, 5, 6, 8, 10), 2 / 3),
    },
    "gmm64": {"rmse": dict.fromkeys((5, 8, 10), 1 / 2)},
}
# FD to the data: a tuned solver with so many calls must beat all stock ones with the other number.
BEYOND = {"mnist": {6: 12}}

# Settings that the command line does not give. A problem with cheap calls has many noises and no bands.
DEFAULTS: dict[str, Any] = {
    **{"sde": ["edm"], "nfe": [4, 5, 6, 8, 10], "screen": [64, 500], "best": 3, "batch_size": 250},
    **{"samples": 256, "held_out": 1024, "bands": 8, "robust": True, "dtype": "float32", "compile": False},
    **{"converged": None, "plans": None, "finalists": 1},
}
OWN: dict[str, dict[str, Any]] = {
    "mnist": {"plans": FOLDERS["mnist"], "converged": 40, "best": 2, "dtype": "bfloat16", "compile": True},
    "gmm64": {
        **{"sde": ["edm", "vp", "rectified-flow"], "nfe": [5, 8, 10], "screen": [500, 4000]},
        **{"samples": 16384, "held_out": 4096, "bands": 0, "robust": False, "batch_size": 256},
    },
}

WHOLE: dict[str, Any] = {"robust": True, "bands": 8}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "all": WHOLE,
    "levels only": WHOLE | {"groups": ("knots", "first_step")},
    "weights only": WHOLE | {"groups": ("weights", "scales")},
    "levels and weights, no free step": WHOLE | {"groups": ("weights", "scales", "knots")},
    "not robust": WHOLE | {"robust": False},
    "no bands": WHOLE | {"bands": 0},
    "neither robust nor bands": {"robust": False, "bands": 0},
}


def settled(options: Namespace, problem: str) -> Namespace:
    """The options for one problem: those of the command line, then the problem's, then the defaults.

    Raises:
        ValueError: a bad option.
    """
    lookup("problem", problem, PROBLEMS)
    for kind, names, known in (("SDE", options.sde, SDES), ("solver", options.solver, SOLVERS)):
        for name in names or ():
            lookup(kind, name, known)
    for spec in options.spacing:
        spacing_of(spec)
    command.at_least(1, options, "converged")
    command.at_least(2, options, "n_samples", "screen", "nfe")
    own = DEFAULTS | OWN.get(problem, {})
    if options.tune or options.ablation:
        own["plans"] = None
    given = {name: value for name, value in vars(options).items() if value is not None}
    return Namespace(**own | given | {"problem": problem})
