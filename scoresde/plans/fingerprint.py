"""Which network, process and precision a plan was made for, and whether it is run with the same."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch

from ..processes.sde import SDE
from .plan import Plan

VERSION = "3:"  # of the hash; hashes of another version cannot be compared


def fingerprint(denoiser: Callable[..., Any]) -> dict[str, str]:
    """Hash of a denoiser's weights and settings, its SDE, and its precision.

    Settings are what a network is made of: attributes of its modules and of plain objects, in containers and
    arrays, of partials, defaults and what functions close over, and the numbers and names in the code of its
    functions; so that a guidance scale is seen wherever it is held, but for a global variable. Of a large
    tensor, 65,536 numbers count. What a call changes is no setting (:mod:`scoresde.plans.contents`): not a
    counter, and not a cache. An object that has a method ``__fingerprint__`` is what this returns, and a
    module's attribute counts if its name does not begin with an underscore.

    Warns:
        UserWarning: it holds things of which nothing can be known, so that others of them go unnoticed.
    """
    from .contents import Contents  # which knows much that sampling does not need

    contents, inner = Contents(), denoiser
    weights = contents.of(denoiser).hex()[:16]
    if contents.unseen:
        warnings.warn(
            f"the fingerprint of the network does not see what is in {', '.join(sorted(contents.unseen))}: "
            f"another would not be noticed; give its holder a method __fingerprint__ that returns settings",
            stacklevel=3,
        )
    while hasattr(inner, "denoiser"):
        inner = inner.denoiser
    return {
        "weights": VERSION + weights,
        "sde": repr(getattr(denoiser, "sde", None)),
        "dtype": str(getattr(inner, "dtype", None) or torch.float32),
    }


def check_made_for(plan: Plan, denoiser: Callable[..., Any], stacklevel: int = 3) -> None:
    """Warn if a plan says that it was made for another network or precision than the one it is run with."""
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
    """ValueError unless a plan runs from end to end of an SDE, on its levels."""
    for level in (plan.start, *plan.levels, plan.end):
        own = sde.level(torch.tensor(level.t, dtype=torch.float64))
        if not all(
            math.isclose(a, float(b), rel_tol=1e-6, abs_tol=1e-9)
            for a, b in zip(level[1:3], own[1:3], strict=True)
        ):
            break
    else:
        # A stock solver that won may end where its list of levels does.
        ends = plan.end.t <= sde.t_min * (1 + 1e-6) or (plan.about or {}).get("sde") == repr(sde)
        if math.isclose(plan.start.t, sde.t_max, rel_tol=1e-6) and ends:
            return
    tuned = (plan.about or {}).get("sde", f"one that starts at t = {plan.start.t:.6g}")
    raise ValueError(f"{what} was tuned under another SDE, {tuned}; here {sde}: tune under this one")
