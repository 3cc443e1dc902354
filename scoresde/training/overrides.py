"""Overrides of a configuration from the command line: ``section.key=value``."""

import tomllib
from typing import Any


def parse_override(override: str) -> dict[str, Any]:
    """``section.key=value`` as nested mappings. A value is TOML, or else a word.

    Raises:
        ValueError: another form, or a value that is nested too deeply.
    """
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"an override is written section.key=value, got {override!r}")
    try:
        return tomllib.loads(override)
    except RecursionError:
        raise ValueError(f"override {key.strip()}: its value is nested too deeply") from None
    except ValueError:  # not TOML, or a number with too many digits
        word = value.replace("\\", "\\\\").replace('"', '\\"')
        try:
            return tomllib.loads(f'{key} = "{word}"')
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"an override is written section.key=value, got {override!r}: {error}") from None


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Put the values of ``other`` into nested mappings, in place; neighbours stay."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
