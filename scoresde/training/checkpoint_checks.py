"""The checks of a checkpoint: its header, and the names, shapes and types of its tensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .configuration_faults import RENAMED
from .labels import Labels

AFTER = ("levels.budgets",)  # what does not change the training


def configuration_in(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in a header, not yet validated; ValueError without one, or with one of old names."""
    content = header.get("configuration")
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {path} has no configuration in its header; scoresde did not write it")
    old = [f"[{key}], now [{name}]" for key, name in RENAMED.items() if key in content]
    if old:
        raise ValueError(
            f"checkpoint {path} was written by an earlier version of scoresde, with the sections "
            f"{' and '.join(old)}; use it with that version, or train again"
        )
    return content


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """ValueError, with every changed key, unless two configurations train alike, except for more steps."""
    was, given = ({k: v for k, v in _flat(one).items() if k not in AFTER} for one in (before, now))
    steps = "optimization.steps"
    changed = [
        f"{key} was {_shown(was, key)}, is {_shown(given, key)}"
        for key in was | given
        if was.get(key) != given.get(key) and not (key == steps and given[steps] > was[steps])
    ]
    if changed:
        raise ValueError(f"{path} was written with another configuration: {'; '.join(changed)}")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by ``section.key``."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"


def check_fit(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], types: bool = True
) -> None:
    """ValueError unless the tensors of a file have the names, shapes and types of its configuration."""
    fault = misfit(tensors, expected, types)
    if fault:
        raise ValueError(f"checkpoint {path} does not fit its own configuration: {fault}")


def misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], types: bool) -> str:
    """The first difference in names, shapes and, on request, types, and the number of others; or empty."""
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in expected]
    for name in (name for name in expected if name in tensors):
        one, other = tensors[name], expected[name]
        if one.shape != other.shape:
            wrong.append(f"{name} has shape {tuple(one.shape)}, not {tuple(other.shape)}")
        elif types and one.dtype != other.dtype:
            wrong.append(f"{name} is of {one.dtype}, not {other.dtype}")
    return "".join(wrong[:1]) + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")


def entries_in(path: Path, header: Mapping[str, Any], tensors: Iterable[str]) -> list[int]:
    """The numbers of the parameters that the optimiser has a state for: those that ever had a gradient."""
    found = {name.split(".")[1] for name in tensors if name.startswith("optimizer.")}
    given = header.get("optimizer", sorted(int(number) for number in found if number.isdecimal()))
    if not isinstance(given, list) or not all(_is_count(number) for number in given):
        raise ValueError(f"checkpoint {path}: optimizer must be a list of parameters' numbers, got {given!r}")
    return given


def count_in(path: Path, header: Mapping[str, Any], key: str, most: int) -> int:
    """A count in a header, from 0 to ``most``; ValueError for another value."""
    value = header.get(key)
    if not isinstance(value, int) or not _is_count(value) or value > most:
        raise ValueError(f"checkpoint {path}: {key} must be a whole number from 0 to {most}, got {value!r}")
    return value


def check_counts(path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """ValueError for a tensor that counts more than ``step`` steps, or a mean of squares below 0."""
    for name, tensor in tensors.items():
        if name == "average.n_averaged" or (name.startswith("optimizer.") and name.endswith(".step")):
            if not 0 <= tensor.item() <= step or tensor.item() % 1:
                raise ValueError(
                    f"checkpoint {path}: {name} must be a whole number from 0 to {step}, got {tensor.item()}"
                )
        elif name.startswith("optimizer.") and name.endswith("_sq") and (tensor < 0).any():
            raise ValueError(f"checkpoint {path}: {name} must not be negative")


def shape_in(path: Path, header: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of one sample in a header; ValueError without one."""
    shape = header.get("shape")
    if not isinstance(shape, list) or not shape or not all(_is_count(n) and n > 0 for n in shape):
        raise ValueError(f"checkpoint {path} does not say the shape of its samples")
    return tuple(shape)


def labels_in(path: Path, header: Mapping[str, Any], classes: int) -> Labels | None:
    """The classes of the training data in a header; None without; ValueError for others than ``classes``."""
    content = header.get("labels")
    if content is None:
        return None
    seen, names = (content.get(key) if isinstance(content, dict) else None for key in Labels._fields)
    if (
        not isinstance(seen, list)
        or not isinstance(names, list)
        or not all(_is_count(label) and label < classes for label in seen)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"checkpoint {path}: labels must be seen, below {classes}, and names, got {content!r}"
        )
    return Labels(tuple(seen), tuple(names))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
