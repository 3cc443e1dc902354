"""JSON of a file into what it must be, or one line that says which key is wrong."""

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

Made = TypeVar("Made")


def parsed(content: bytes, what: type[Made]) -> Made:
    """JSON as a thing of this type, to the same bits; infinity may be in it, NaN not.

    Raises:
        ValueError: no JSON, or not of the type; the key is named.
    """
    try:
        json.loads(content, parse_constant=_number)
        kind: Any = what
        made: Made = _adapter(kind).validate_json(content, strict=True)
        return made
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key}: {first['msg']}" if key else first["msg"]) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@cache
def _adapter(what: Any) -> TypeAdapter[Any]:
    return TypeAdapter(what)


def _number(name: str) -> float:
    if name == "NaN":
        raise ValueError("it holds NaN")
    return float(name)
