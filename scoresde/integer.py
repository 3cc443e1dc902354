"""Integers of any library as Python integers."""

import operator
from typing import Any


def integer(name: str, value: Any, least: int | None = None) -> int:
    """``value`` as a Python ``int``, whose sums do not overflow.

    Raises:
        TypeError: the value is not an integer; True and False are refused.
        ValueError: the value is less than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return number
