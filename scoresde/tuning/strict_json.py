"""Read JSON as a given type, strictly, with an error that names the wrong key."""

import json
from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

Made = TypeVar("Made")


def parse_json(content: bytes, kind: type[Made]) -> Made:
    """JSON as an object of type ``kind``, floats to the same bits. Infinity is allowed, NaN is not.

    Raises:
        ValueError: it is not JSON, or not of this type; the message names the key.
    """
    try:
        json.loads(content, parse_constant=_constant)
        adapter: Any = _adapter(cast(Hashable, kind))
        made: Made = adapter.validate_json(content, strict=True)
        return made
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key}: {first['msg']}" if key else first["msg"]) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plain_data(value: Any) -> Any:
    """A dataclass as dictionaries, tuples and numbers, with the keys that :func:`parse_json` reads."""
    return _adapter(cast(Hashable, type(value))).dump_python(value, by_alias=True)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("it holds NaN")
    return float(name)
