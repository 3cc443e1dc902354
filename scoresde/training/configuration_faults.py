"""The faults of a configuration: unknown and misplaced keys, and wrong values, each in one line."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..registry import nearest

# Sections of earlier versions, and their names now.
RENAMED = {"schedule": "optimization", "times": "time_sampling"}


def check_places(
    content: Mapping[str, Any], chosen: Mapping[str, Sequence[str]], possible: Mapping[str, Sequence[str]]
) -> None:
    """ValueError for a section under an earlier name, and for a key that belongs in another section.

    Args:
        content: of the file; its sections are mappings.
        chosen: the keys of each section, and of the file under ``""``, for the names in the file.
        possible: the same for all names.
    """
    for key in RENAMED:
        if isinstance(content.get(key), Mapping):
            raise ValueError(_unknown(key, key, chosen[""]))
    places = {"": content} | {key: value for key, value in content.items() if isinstance(value, Mapping)}
    for place, keys in places.items():
        for key in keys if place in possible else ():
            homes = [
                f"in [{home}]" if home else "above all sections" for home in chosen if key in chosen[home]
            ]
            if homes and key not in possible[place]:
                found = f"{place}.{key}" if place else key
                raise ValueError(f"unknown key {found}; {key} belongs {' or '.join(homes)}")


def first_fault(error: ValidationError, keys: Mapping[str, Sequence[str]]) -> str:
    """The first fault that pydantic found, in one line.

    Args:
        error: of pydantic.
        keys: the known keys of the file, under ``""``, and of its sections.
    """
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        section = keys.get(str(first["loc"][0]), keys[""]) if len(first["loc"]) > 1 else keys[""]
        return _unknown(key, str(first["loc"][-1]), section)
    if first["type"] == "missing":
        return f"key {key} is missing"
    if first["type"] == "value_error":  # from a check of our own, whose message names the value
        return f"{key}: {first['ctx']['error']}"
    return f"{key}: {first['msg'].lower()}, got {first['input']!r}"


def _unknown(place: str, key: str, known: Sequence[str]) -> str:
    return f"unknown key {place}; {nearest(key, known, RENAMED)}"
