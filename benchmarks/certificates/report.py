"""The report of all certificates, as it is written to JSON."""

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from known import SDES, reference

from certificates.depth import FEW, FLOOR, SAME, Depth, Record, no_identity, sde_name
from certificates.predictions import predictions
from scoresde import __version__


def report_of(
    solvers: Mapping[str, Any], problems: Sequence[str], found: Mapping[tuple[str, str], Record], depth: Depth
) -> Record:
    """The report on solvers by name, from the record of each solver on each problem.

    The report has no key "quick" yet: the program knows.
    """
    certificates = [
        summary(name, solver, [found[name, problem] for problem in problems])
        for name, solver in solvers.items()
    ]
    sdes = sorted({sde_name(problem) for problem in problems}, key=list(SDES).index)
    predicted = {sde: predictions(sde) for sde in sdes}
    references = {sde: reference(sde)[2] for sde in sdes}
    faults = [f"{one['solver']}: {fault}" for one in certificates for fault in one["faults"]]
    for sde, differences in predicted.items():
        faults += [f"prediction {p}: {off:.1e} off on {sde}" for p, off in differences.items() if off > SAME]
    faults += [f"reference: {off:.1e} off on {sde}" for sde, off in references.items() if off > FLOOR / 10]
    return {
        "ladder": depth.ladder,
        "sweep": depth.sweep,
        "versions": {
            "scoresde": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "references": references,
        "predictions": predicted,
        "solvers": certificates,
        "faults": faults,
    }


def summary(name: str, solver: Any, records: Sequence[Record]) -> Record:
    """One solver's certificate: the worst of each figure over the problems, and all records."""
    whole = [record for record in records if "kind" in record]
    first = whole[0] if whole else {"kind": None, "claimed": None, "stochastic": None}
    curve = "law" if first["stochastic"] else "ode"

    def worst(figure: Callable[[Record], float | None], pick: Callable[..., Record] = max) -> Record | None:
        """The largest of a figure, or the smallest, and its problem."""
        values = [{"value": v, "sde": r["sde"]} for r in whole if (v := figure(r)) is not None]
        return pick(values, key=lambda one: one["value"]) if values else None

    return {
        "solver": name,
        "repr": repr(solver),
        "kind": first["kind"],
        "stochastic": first["stochastic"],
        "claimed": first["claimed"],
        "order": worst(lambda r: r[curve]["order"], min),
        "error": worst(lambda r: _at_160(r[curve]["errors"])),
        "law_order": worst(lambda r: r["law"]["order"], min),
        "law_error": worst(lambda r: _at_160(r["law"]["errors"])),
        "identity": worst(lambda r: r["identity"]),
        "point_order": worst(lambda r: r["point"]["order"], min),
        "no_identity": no_identity(solver),
        "shortest": min((n for r in whole for n, calls in r["calls"].items() if calls), default=None),
        "amplification": worst(lambda r: (r["calls"][10] or {}).get("amplification")),
        "combinations": sum(r["sweep"]["combinations"] for r in whole if "sweep" in r),
        "float32": worst(_float32),
        "faults": [f"{fault}, on {r['sde']}" for r in records for fault in r["faults"]],
        "runs": list(records),
    }


def _at_160(errors: Mapping[float, float]) -> float:
    """The error at 160 steps, or at the last tolerance."""
    return errors.get(160, list(errors.values())[-1])


def _float32(record: Record) -> float | None:
    """The largest difference between the precisions, of runs with at least FEW steps."""
    if "sweep" not in record:
        return None
    return max((d for n, d in record["sweep"]["float32"].items() if n >= FEW), default=None)
