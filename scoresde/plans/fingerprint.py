"""What a plan was made for: the fingerprint of a denoiser, and the checks of a plan against it."""

import math
import warnings
from typing import Any

import torch

from ..denoisers.protocol import DenoiserLike, as_denoiser
from ..processes.sde import SDE
from .levels import outside
from .plan import Plan

VERSION = "3:"  # of the hash; hashes of different versions cannot be compared


def fingerprint(denoiser: DenoiserLike) -> dict[str, str]:
    """The hash of a denoiser's weights and settings, its SDE, and its precision.

    Args:
        denoiser: the denoiser; what counts as a setting is defined by :func:`hash_of`.

    Returns:
        ``weights``, the hash; ``sde``, its text; ``dtype``, the precision of the network, float32 where it
        runs in the precision of x.

    Raises:
        TypeError: it is not a denoiser (:func:`scoresde.denoisers.protocol.as_denoiser`).

    Warns:
        UserWarning: the denoiser holds an object that cannot be hashed; a change of it is not noticed.
    """
    denoiser = as_denoiser(denoiser)
    return {
        "weights": hash_of(denoiser, stacklevel=4),
        "sde": repr(denoiser.sde),
        "dtype": str(denoiser.dtype or torch.float32),
    }


def hash_of(network: Any, stacklevel: int = 3) -> str:
    """The hash of the weights and settings of a network, or of any callable.

    The following count:

    1. Parameters, buffers and attributes of modules whose names do not begin with an underscore, attributes
       of plain objects, and the items of containers and arrays. A large tensor counts by 65,536 of its
       numbers.
    2. Arguments of partials, defaults, and the variables that a function uses from the functions around it.
    3. Numbers and names in the code of functions and methods.

    Global variables do not count. Counters, caches and other state that a call changes do not count either
    (:mod:`scoresde.plans.calls`). The result of an object's method ``__fingerprint__`` counts in place of the
    object.

    Args:
        network: the object.
        stacklevel: of the warning.

    Warns:
        UserWarning: it holds an object that cannot be hashed; a change of that object is not noticed.
    """
    from .contents import Contents  # slow to import, and not needed for sampling

    contents = Contents()
    found = contents.of(network).hex()[:16]
    if contents.unseen:
        types = ", ".join(sorted(contents.unseen))
        warnings.warn(
            f"the fingerprint of the network does not cover objects of {types}: a change there is not "
            f"noticed; give the object that holds it a method __fingerprint__ that returns its settings",
            stacklevel=stacklevel,
        )
    return VERSION + found


def check_made_for(plan: Plan, denoiser: DenoiserLike, stacklevel: int = 3) -> None:
    """Warn if a plan was made for another network or another precision than the denoiser's.

    Args:
        plan: the plan; one without ``about`` was made for no network.
        denoiser: the denoiser that the plan is to run with.
        stacklevel: of the warning.

    Warns:
        UserWarning: names what differs, and what to do.
    """
    if plan.about is None:
        return
    now = fingerprint(denoiser)
    what = {"weights": "another network, or with another guidance", "dtype": "another precision"}
    for key, other in what.items():
        made = str(plan.about.get(key, now[key]))
        if made != now[key] and (key != "weights" or made.startswith(VERSION)):
            warnings.warn(
                f"this plan was tuned for {other} ({key} {plan.about[key]}, here {now[key]}); its "
                f"measured errors do not apply: tune again, or use a stock solver",
                stacklevel=stacklevel,
            )


def check_levels(plan: Plan, sde: SDE, what: str) -> None:
    """Check that a tuned plan runs on the levels of an SDE, from its ``t_max`` to its ``t_min`` or further.

    Args:
        plan: the plan.
        sde: the process.
        what: names the plan in the message.

    Raises:
        ValueError: the plan was tuned under another SDE.
    """
    # A stock solver that won the tuning may end where its list of levels does, before t_min.
    ends = plan.end.t <= sde.t_min * (1 + 1e-6) or (plan.about or {}).get("sde") == repr(sde)
    begins = math.isclose(plan.start.t, sde.t_max, rel_tol=1e-6)
    if begins and ends and outside(sde, (plan.start, *plan.levels, plan.end)) is None:
        return
    tuned = (plan.about or {}).get("sde", f"one that starts at t = {plan.start.t:.6g}")
    raise ValueError(f"{what} was tuned under another SDE, {tuned}; here {sde}: tune under this one")
