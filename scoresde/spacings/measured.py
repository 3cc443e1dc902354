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
from ..integer import integer
from ..processes.sde import SDE
from ..registry import build, typed
from .flow_time import FlowTime
from .formulas import between_ends, ramp

FORMAT = "scoresde levels 1"


@dataclass(frozen=True)
class AtShares:
    """Levels at equal shares of a density, which is given by its cumulative shares at nodes.

    Level i of n is where the share is i / n; between two nodes the share is linear in u. The nodes are in u =
    sigma / (alpha + sigma), so that alpha may be 0 at the first one. On a part of their range, the levels are
    at equal shares of the density there.

    Args:
        u: of the nodes, at least two, falling, in (0, 1]; the first and the last are the ends of the process.
        shares: the share of the levels from the first node to this one, rising, from 0 to 1.

    Raises:
        ValueError: other numbers; when used, a process that goes beyond the nodes.
    """

    u: Sequence[float]
    shares: Sequence[float]

    def __post_init__(self) -> None:
        for name in ("u", "shares"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        if len(self.u) < 2 or len(self.shares) != len(self.u):
            raise ValueError(
                f"u and shares must be at least 2 numbers each, as many of one as of the other, got "
                f"{len(self.u)} and {len(self.shares)}"
            )
        for a, b in pairwise(self.u):
            if not 1 >= a > b > 0:
                raise ValueError(f"u must strictly fall within (0, 1], got {a!r} before {b!r}")
        for a, b in pairwise(self.shares):
            if not a < b:
                raise ValueError(f"shares must strictly rise, got {a!r} before {b!r}")
        if (self.shares[0], self.shares[-1]) != (0, 1):
            raise ValueError(f"shares must be from 0 to 1, got {self.shares[0]!r} to {self.shares[-1]!r}")

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last node."""
        return self.u[0], self.u[-1]

    def __call__(self, sde: SDE, n: int) -> Tensor:
        ends = ends_of(sde)
        if not _holds(self.ends, ends):
            raise ValueError(f"u must hold {_range(ends)} for {sde}, got {_range(self.ends)}")
        first, last = np.interp(np.negative(ends), np.negative(self.u), self.shares)
        u = torch.from_numpy(np.interp(ramp(first, last, n).numpy(), self.shares, self.u))
        return between_ends(sde, sde.time_of(torch.log1p(-u) - u.log()))


# The spacings that a measurement chooses from, by name.
FORMS: dict[str, Any] = {"flow-time": FlowTime, "at-shares": AtShares}


@dataclass(frozen=True)
class Choice:
    """The levels and the solver that a measurement found best for a number of calls.

    Args:
        calls: network calls, at least 1.
        solver: its name, with options or without.
        spacing: of the levels.

    Raises:
        TypeError, ValueError: another number of calls, solver or spacing.
    """

    calls: int
    solver: str
    spacing: FlowTime | AtShares

    def __post_init__(self) -> None:
        object.__setattr__(self, "calls", integer("calls", self.calls, 1))
        if not isinstance(self.solver, str) or not self.solver:
            raise TypeError(f"solver must be the name of a solver, got {_short(self.solver)}")
        if type(self.spacing) not in FORMS.values():
            raise TypeError(f"spacing must be a FlowTime or an AtShares, got {_short(self.spacing)}")


@dataclass(frozen=True)
class Measured:
    """A spacing measured on a network (:func:`scoresde.tuning.measured`): a choice for each number of calls.

    A run of n steps has the levels of the choice whose number of calls is nearest to n in proportion; of two
    that are equally near, the smaller. With the solver ``"auto"``, :func:`scoresde.prepare` takes the choice
    for the number of calls, its solver and its levels.

    Args:
        process: the type of the SDE, such as ``"VPSDE"``.
        ends: u = sigma / (alpha + sigma) at ``t_max`` and ``t_min``, within the nodes of the choices.
        choices: at least one, the calls rising.
        about: the network and the measurement, as JSON; it does not change the levels.
        source: what messages call the levels; the file that they were read from.

    Raises:
        TypeError, ValueError: other arguments; when used, another process or another range.
    """

    process: str
    ends: tuple[float, float]
    choices: tuple[Choice, ...]
    about: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    source: str = field(default="measured levels", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.process, str):
            raise TypeError(f"process must be the name of a type of SDE, got {_short(self.process)}")
        object.__setattr__(self, "ends", tuple(map(float, self.ends)))
        object.__setattr__(self, "choices", tuple(self.choices))
        if len(self.ends) != 2 or not 1 >= self.ends[0] > self.ends[1] > 0:
            raise ValueError(f"ends must be 2 numbers that strictly fall within (0, 1], got {self.ends}")
        calls = [choice.calls for choice in self.choices]
        if not calls or not all(a < b for a, b in pairwise(calls)):
            raise ValueError(f"choices must be at least one, of rising numbers of calls, got {calls}")
        for spacing in (choice.spacing for choice in self.choices):
            if isinstance(spacing, AtShares) and not _holds(spacing.ends, self.ends):
                raise ValueError(f"u of a choice must hold {_range(self.ends)}, got {_range(spacing.ends)}")

    def choice(self, calls: int) -> Choice:
        """The choice for a number of calls."""
        return min(self.choices, key=lambda one: max(calls, one.calls) / min(calls, one.calls))

    def __call__(self, sde: SDE, n: int) -> Tensor:
        self.check(sde)
        return self.choice(n).spacing(sde, n)

    def check(self, sde: SDE) -> None:
        """ValueError unless the levels were measured on this process, between the same ends."""
        if type(sde).__name__ != self.process or not _same(self.ends, ends_of(sde)):
            raise ValueError(
                f"{self.source}: measured on {self.process} with u = sigma / (alpha + sigma) "
                f"{_range(self.ends)}, not on {sde} with u {_range(ends_of(sde))}; measure on this process"
            )

    def save(self, path: str | Path) -> None:
        """Write the levels as JSON. A file is replaced as a whole or not at all."""
        choices = [
            {"calls": one.calls, "solver": one.solver, "spacing": _content(one.spacing)}
            for one in self.choices
        ]
        content = {"format": FORMAT, "process": self.process, "ends": self.ends, "choices": choices}
        write_atomically(Path(path), json.dumps(content | {"about": dict(self.about)}, indent=1).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Measured":
        """Read a file of :meth:`save`, bit for bit.

        Raises:
            ValueError: the file cannot be read or holds no measured levels; the message names file and fault.
        """
        try:
            process, ends, choices, about = _parts(json.loads(Path(path).read_text("utf-8")))
            return cls(process, ends, choices, about, str(path))
        except RecursionError:
            raise ValueError(f"{path} holds no measured levels: it is nested too deeply") from None
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{path} holds no measured levels: {error}") from error


def measured_levels(file: Path) -> Measured:
    """The measured levels in a file, as a spacing by name: ``"measured:file=runs/digits/levels.json"``."""
    return Measured.load(file)


def ends_of(sde: SDE) -> tuple[float, float]:
    """u = sigma / (alpha + sigma) at ``t_max`` and at ``t_min``."""
    first, last = (1 / (1 + math.exp(lam)) for lam in sde.lam_ends())
    return first, last


def _same(ends: tuple[float, float], others: tuple[float, float]) -> bool:
    """Are these the same numbers u, to 1e-6 of sigma / alpha?"""
    lams, other_lams = (
        [math.log(1 / u - 1) if u < 1 else -math.inf for u in both] for both in (ends, others)
    )
    pairs = zip(lams, other_lams, strict=True)
    return all(math.isclose(a, b, rel_tol=0, abs_tol=1e-6) for a, b in pairs)


def _holds(nodes: tuple[float, float], ends: tuple[float, float]) -> bool:
    """Are the ends within the nodes?"""
    return _same(nodes, ends) or nodes[0] >= ends[0] > ends[1] >= nodes[1]


def _range(ends: tuple[float, float]) -> str:
    return f"from {ends[0]:.9g} to {ends[1]:.9g}"


def _content(spacing: FlowTime | AtShares) -> dict[str, Any]:
    name = next(name for name, kind in FORMS.items() if type(spacing) is kind)
    return {"name": name, **asdict(spacing)}


def _parts(content: Any) -> tuple[Any, Any, tuple[Choice, ...], Mapping[str, Any]]:
    """The arguments of the saved levels; ValueError or TypeError names the fault."""
    (form,) = _values(content, "it", "format")
    if form != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}, got {_short(form)}")
    process, ends, saved, about = _values(content, "it", "process", "ends", "choices", "about")
    if not isinstance(saved, list):
        raise ValueError(f"its choices must be a list, got {_short(saved)}")
    if not isinstance(about, Mapping):
        raise ValueError(f"its about must be an object, got {_short(about)}")
    choices = []
    for one in saved:
        calls, solver, spacing = _values(one, "a choice", "calls", "solver", "spacing")
        choices.append(Choice(calls, solver, build("spacing", FORMS, spacing)))
    return process, typed("its ends", ends, tuple[float, float]), tuple(choices), about


def _values(content: Any, what: str, *keys: str) -> list[Any]:
    """The values of some keys of a JSON object."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{what} must be an object, got {_short(content)}")
    for key in keys:
        if key not in content:
            raise ValueError(f"{what} has no {key!r}")
    return [content[key] for key in keys]


def _short(value: Any) -> str:
    return f"{value!r:.60}"
