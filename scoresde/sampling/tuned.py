"""Tuned plans by name: ``tuned:FILE.json``, and ``tuned`` for the plans of the included network."""

import re
from pathlib import Path

from ..plans.fingerprint import check_levels
from ..plans.plan import Plan
from ..processes.sde import SDE
from ..spacings.formulas import Spacing

SHIPPED = Path(__file__).parents[1] / "pretrained" / "mnist"


def is_tuned(name: object) -> bool:
    """Whether a name is the name of a tuned plan, not of a solver."""
    return isinstance(name, str) and name.partition(":")[0] == "tuned"


def tuned_plan(
    name: str,
    sde: SDE,
    nfe: int | None = None,
    spacing: Spacing | str | None = None,
    *,
    to_clean: bool = False,
) -> Plan:
    """The tuned plan of a name. It has one budget, its own levels and end, and one SDE.

    Args:
        name: ``"tuned"`` or ``"tuned:FILE.json"``.
        sde: the process of the run; it must be the process of the plan.
        nfe: the budget; None for the budget of the file.
        spacing: must be None.
        to_clean: must be False.

    Raises:
        ValueError: another ``nfe`` than the plan's, or no included plan for it; a spacing or ``to_clean``;
            another SDE than the plan's; a file that does not hold a plan.
    """
    if spacing is not None or to_clean:
        raise ValueError(f"{name!r} has its own levels and end; give no spacing and no to_clean beside it")
    file = name.partition(":")[2]
    plan = Plan.load(file or plan_file(SHIPPED, nfe))
    if nfe not in (None, plan.nfe):
        raise ValueError(f"nfe must be {plan.nfe}, which {file} was tuned for, or None, got {nfe!r}")
    check_levels(plan, sde, f"{name!r}")
    return plan


def plan_file(folder: Path, nfe: int | None) -> Path:
    """The file of the plan of ``nfe`` calls that comes with the network in a folder.

    Raises:
        ValueError: the folder has no plan of ``nfe`` calls.
    """
    known = sorted(
        int(found[1]) for path in folder.glob("*") if (found := re.fullmatch(r"tuned-(\d+)\.json", path.name))
    )
    if nfe not in known:
        raise ValueError(
            f"'tuned' needs the nfe of an included plan: {', '.join(map(str, known)) or 'there is none'}; "
            f"got {nfe!r}; for another, run scoresde tune and name its file, tuned:FILE.json"
        )
    return folder / f"tuned-{nfe}.json"
