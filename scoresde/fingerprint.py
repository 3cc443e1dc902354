"""Which network, process and precision a plan was made for, and whether it is run with the same."""

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from .plan import Plan
from .sde import SDE

MOST = 65_536  # numbers of a tensor that are looked at, evenly spaced


def fingerprint(denoiser: Callable[..., Any]) -> dict[str, str]:
    """Hash of a denoiser's weights and settings, its SDE, and its precision.

    Settings are what a network is made of: attributes of its modules, of plain objects, of partials, defaults
    and what functions close over, so that a guidance scale is seen wherever it is held, but for a global
    variable. Of a large tensor, 65,536 numbers count.
    """
    digest = hashlib.sha256()
    for part in _parts(denoiser, {}):
        digest.update(part)
    inner = getattr(denoiser, "denoiser", denoiser)
    return {
        "weights": digest.hexdigest()[:16],
        "sde": repr(getattr(denoiser, "sde", None)),
        "dtype": str(getattr(inner, "dtype", None) or torch.float32),
    }


def check_made_for(plan: Plan, denoiser: Callable[..., Any]) -> None:
    """Warn if a plan says that it was made for another network or precision than the one it is run with."""
    if plan.about is None:
        return
    now = fingerprint(denoiser)
    what = {"weights": "another network, or another guidance of it", "dtype": "another precision"}
    for key, other in what.items():
        if plan.about.get(key, now[key]) != now[key]:
            warnings.warn(
                f"this plan was tuned for {other} ({key} {plan.about[key]}, here {now[key]}); what was "
                f"measured of it does not hold: tune anew, or use a stock solver",
                stacklevel=3,
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


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """What a thing is made of, in an order that is the same in every process; not its SDE, nor its mode."""
    if isinstance(value, bool | int | float | complex | str | bytes | Path | None):
        yield repr(value).encode()
        return
    if id(value) in seen or isinstance(value, SDE | torch.device | type):
        return
    seen[id(value)] = value  # alive, so that nothing else takes its number
    if isinstance(value, Tensor):
        flat = value.detach().flatten()
        few = flat[:: -(-len(flat) // MOST) or 1].cpu().contiguous()
        yield f"{tuple(value.shape)}".encode()
        yield few.view(torch.uint8).numpy().tobytes()
    elif isinstance(value, nn.Module):
        yield from _named(value.state_dict(), seen)
        for name, module in value.named_modules():
            yield name.encode()
            own = {k: v for k, v in vars(module).items() if k[0] != "_" and k not in ("training", "dtype")}
            yield from _named(own, seen)
    elif isinstance(value, FunctionType):
        yield value.__qualname__.encode()
        yield from _parts([value.__defaults__, value.__kwdefaults__], seen)
        for cell in value.__closure__ or ():
            yield from _parts(cell.cell_contents, seen)
    elif isinstance(value, partial):
        yield from _parts([value.func, value.args, value.keywords], seen)
    elif is_dataclass(value):
        yield from _named({field.name: getattr(value, field.name) for field in fields(value)}, seen)
    elif isinstance(value, Mapping):
        yield from _named(value, seen)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part, seen)
    elif hasattr(value, "__self__"):  # a bound method
        yield from _parts([value.__name__, value.__self__], seen)
    elif hasattr(value, "__dict__"):
        yield from _named(vars(value), seen)


def _named(parts: Mapping[Any, Any], seen: dict[int, Any]) -> Iterator[bytes]:
    for name, part in parts.items():
        yield f"{name}=".encode()
        yield from _parts(part, seen)
