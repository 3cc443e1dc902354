"""Levels measured on a network, with a solver, for each number of calls; and their saved form."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import write_atomically
from ..processes.sde import SDE
from ..registry import build
from .flow_time import FlowTime
from .formulas import between_ends, ramp

FORMAT = "scoresde levels 1"


@dataclass(frozen=True)
class AtShares:
    """Levels at equal shares of a density, which is given by its cumulative share at nodes.

    The nodes are u = sigma / (alpha + sigma), so that alpha may be 0 at the first one. Between the nodes the
    share is linear in u.

    Args:
        u: of the nodes, falling, in (0, 1], at least two; the first and the last are the ends of the run.
        shares: the share of the levels from the first node to this one, rising, from 0 to 1.

    Raises:
        ValueError: other numbers.
    """

    u: Sequence[float]
    shares: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("u", "shares"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.u) < 2 or not all(a > b for a, b in pairwise((*self.u, 0.0))) or self.u[0] > 1:
            raise ValueError(f"u must be at least 2 falling numbers in (0, 1], got {self.u}")
        if len(self.shares) != len(self.u) or not all(a < b for a, b in pairwise(self.shares)):
            raise ValueError(f"shares must be {len(self.u)} rising numbers, as many as u, got {self.shares}")
        if self.shares[0] != 0 or self.shares[-1] != 1:
            raise ValueError(f"shares must be from 0 to 1, got {self.shares[0]!r} to {self.shares[-1]!r}")

    def __call__(self, sde: SDE, n: int) -> Tensor:
        inner = torch.from_numpy(np.interp(ramp(0.0, 1.0, n)[1:-1].numpy(), self.shares, self.u))
        ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
        lams = torch.log1p(-inner) - inner.log()
        return between_ends(sde, torch.cat([ends[:1], sde.time_of(lams), ends[1:]]))


@dataclass(frozen=True)
class Choice:
    """The best levels and solver that a measurement found for a number of calls.

    Args:
        calls: network calls, which are steps.
        solver: by name.
        spacing: of the levels.
    """

    calls: int
    solver: str
    spacing: FlowTime | AtShares


@dataclass(frozen=True)
class Measured:
    """A spacing measured on a network (:func:`scoresde.tuning.measured`): the choice for each budget.

    A run of n steps has the levels of the choice whose number of calls is nearest to n in proportion; of two
    equally near, the smaller. With ``"auto"``, :func:`scoresde.prepare` takes the solver of the choice too.

    Args:
        process: the type of the SDE.
        ends: u = sigma / (alpha + sigma) at ``t_max`` and ``t_min``.
        choices: at least one, the calls rising.
        about: the network and the measurement, as JSON; it does not change the levels.

    Raises:
        ValueError: no choice, or calls that do not rise; when used, another process or another range.
    """

    process: str
    ends: tuple[float, float]
    choices: tuple[Choice, ...]
    about: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        calls = [choice.calls for choice in self.choices]
        if not calls or not all(a < b for a, b in pairwise((0, *calls))):
            raise ValueError(f"choices must be at least one, of rising numbers of calls, got {calls}")

    def choice(self, calls: int) -> Choice:
        """The choice for a number of calls."""
        return min(self.choices, key=lambda choice: abs(math.log(calls / choice.calls)))

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check(sde)
        return self.choice(n).spacing(sde, n)

    def check(self, sde: SDE) -> None:
        """ValueError if the levels were measured under another process, or on another range of it."""
        at = ends_of(sde)
        same = all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(at, self.ends, strict=True))
        if type(sde).__name__ != self.process or not same:
            raise ValueError(
                f"these levels were measured on {self.process} with sigma / (alpha + sigma) from "
                f"{self.ends[0]:.6g} to {self.ends[1]:.6g}, not on {sde} with {at[0]:.6g} to {at[1]:.6g}; "
                f"measure on this process"
            )

    def save(self, path: str | Path) -> None:
        """Write the levels as JSON."""
        choices = [
            {"calls": one.calls, "solver": one.solver, "spacing": _content(one.spacing)}
            for one in self.choices
        ]
        content = {"format": FORMAT, "process": self.process, "ends": self.ends, "choices": choices}
        write_atomically(Path(path), json.dumps(content | {"about": dict(self.about)}, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Measured":
        """Read a file of :meth:`save`, bit for bit. ValueError if the file holds no measured levels."""
        try:
            content = json.loads(Path(path).read_text())
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            choices = tuple(
                Choice(int(one["calls"]), str(one["solver"]), build("spacing", FORMS, one["spacing"]))
                for one in content["choices"]
            )
            first, last = map(float, content["ends"])
            return cls(str(content["process"]), (first, last), choices, dict(content.get("about", {})))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} holds no measured levels of scoresde: {error}") from error


# The spacings that a measurement chooses from.
FORMS: dict[str, Any] = {"flow-time": FlowTime, "at-shares": AtShares}


def measured_levels(file: str) -> Measured:
    """The measured levels in a file, as a spacing by name: ``"measured:file=runs/digits/levels.json"``."""
    return Measured.load(file)


def ends_of(sde: SDE) -> tuple[float, float]:
    """u = sigma / (alpha + sigma) at ``t_max`` and at ``t_min``."""
    first, last = (1 / (1 + math.exp(lam)) for lam in sde.lam_ends())
    return first, last


def _content(spacing: FlowTime | AtShares) -> dict[str, Any]:
    name = next(name for name, kind in FORMS.items() if type(spacing) is kind)
    return {"name": name, **asdict(spacing)}
