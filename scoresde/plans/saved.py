"""The saved form of a plan: JSON objects, and what ``plan.schema.json`` says of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..processes.level import Level
from .checked import check_level, check_line, shown
from .names import START, kind_of
from .tape import Line
from .vector import Row

FORMAT = "scoresde plan 1"
SCHEMA = Path(__file__).with_name("plan.schema.json")  # JSON Schema of the saved form

Content = dict[str, Any]


def content_of(
    lines: Sequence[Line], start: Level[float], end: Level[float], about: Mapping[str, Any] | None
) -> Content:
    """The saved form of a plan's parts. Numbers of levels are hexadecimal texts: JSON has no infinity."""
    content: Content = {
        "format": FORMAT,
        "start": _level_content(start),
        "end": _level_content(end),
        "lines": [
            {
                "name": line.name,
                "row": _row_content(line.row),
                "level": line.level and _level_content(line.level),
                "measured": line.measured and [_row_content(line.measured[0]), line.measured[1]],
            }
            for line in lines
        ],
    }
    return content if about is None else content | {"about": dict(about)}


def parts_of(
    content: Any,
) -> tuple[list[Line], Level[float], Level[float], Mapping[str, Any] | None]:
    """The lines, start, end and ``about`` of a saved form.

    Raises:
        ValueError: the content is not a plan; the message names the fault.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"it must be an object, got {shown(content)}")
    if (form := _part(content, "format", "it")) != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}, got {shown(form)}")
    start, end = (_part(content, key, "it") for key in ("start", "end"))
    if start is None or end is None:
        raise ValueError("its start and end must be levels, got null")
    about = content.get("about")
    if not isinstance(about, Mapping | None):
        raise ValueError(f"its about must be an object, got {shown(about)}")
    return _lines(_part(content, "lines", "it")), _level(start), _level(end), about


def _lines(content: Any) -> list[Line]:
    known = {START}
    lines: list[Line] = []
    for one in _list(content, "its lines"):
        if not isinstance(one, Mapping):
            raise ValueError(f"a line must be an object, got {shown(one)}")
        name = _part(one, "name", "a line")
        if not isinstance(name, str):
            raise ValueError(f"the name of a line must be text, got {shown(name)}")
        place = f"line {shown(name)}"
        row = _row(_part(one, "row", place), place)
        level = None if (given := _part(one, "level", place)) is None else _level(given)
        measured = None if (given := _part(one, "measured", place)) is None else _measured(given, place)
        check_line(name, row, level, measured, known)
        known.add(name)
        lines.append(Line(name, row, level, measured))
    if not lines or kind_of(lines[-1].name) != "state":
        raise ValueError("it does not end with a state")
    return lines


def _level_content(level: Level[float]) -> list[str]:
    return [float(number).hex() for number in level]


def _level(content: Any) -> Level[float]:
    if not (
        isinstance(content, list | tuple) and len(content) == 4 and all(isinstance(n, str) for n in content)
    ):
        raise ValueError(f"a level must be four hexadecimal numbers as text, got {shown(content)}")
    try:
        return check_level(Level(*map(float.fromhex, content)))
    except OverflowError:
        raise ValueError(f"a level must be of numbers below 2^1024, got {shown(content)}") from None


def _row_content(row: Row) -> list[list[Any]]:
    return [[name, weight] for name, weight in row]


def _row(content: Any, place: str) -> Row:
    return tuple(_term(term, place) for term in _list(content, f"the row of {place}"))


def _term(content: Any, place: str) -> tuple[str, float]:
    if not (isinstance(content, list | tuple) and len(content) == 2 and isinstance(content[0], str)):
        raise ValueError(f"a term of {place} must be a name and a weight, got {shown(content)}")
    return content[0], _number(content[1], f"the weight on {shown(content[0])} of {place}")


def _measured(content: Any, place: str) -> tuple[Row, float]:
    if not (isinstance(content, list | tuple) and len(content) == 2):
        raise ValueError(f"measured of {place} must be a row and a number, got {shown(content)}")
    return _row(content[0], place), _number(content[1], f"the signal-to-noise ratio of {place}")


def _number(content: Any, what: str) -> float:
    if not isinstance(content, int | float) or isinstance(content, bool):
        raise ValueError(f"{what} must be a number, got {shown(content)}")
    try:
        return float(content)
    except OverflowError:
        raise ValueError(f"{what} must be below 2^1024") from None


def _list(content: Any, what: str) -> Sequence[Any]:
    if not isinstance(content, list | tuple):
        raise ValueError(f"{what} must be a list, got {shown(content)}")
    return content


def _part(content: Mapping[str, Any], key: str, place: str) -> Any:
    if key not in content:
        raise ValueError(f"{place} has no {key!r}")
    return content[key]
