"""Things by name: look one up, make it of options, and say clearly what is wrong with either."""

import difflib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from .aliases import ALIASES, bare, plain

M = TypeVar("M")

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def nearest(word: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """A hint at the known name that ``word`` may stand for, or is most like, then all of them."""
    names = sorted(known)
    others = {plain(name): repr(name) for name in names}
    for alias, name in (aliases or {}).items():
        if name.partition(":")[0] in names:
            others[alias] = repr(name)
        elif " " in name:  # no name, but words
            others[alias] = name
    close = difflib.get_close_matches(word, names, 1, 0.5)
    hint = others.get(plain(word)) or others.get(bare(plain(word))) or "".join(map(repr, close))
    return (f"did you mean {hint}? " if hint else "") + f"known: {', '.join(names)}"


def lookup(kind: str, name: str, registry: Mapping[str, M]) -> M:
    """The entry ``name`` of a registry; ValueError with the nearest name if there is none."""
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(name, registry, ALIASES.get(kind))}")
    return registry[name]


def make(kind: str, name: str, registry: Mapping[str, Callable[..., M]], options: Mapping[str, Any]) -> M:
    """``registry[name](**options)``, with every option checked against the maker's own signature first.

    Raises:
        ValueError: an unknown name or option, or an option of the wrong type or value; the message names it,
            what came and what is allowed.
    """
    maker = lookup(kind, name, registry)
    signature = inspect.signature(maker).parameters
    hints = get_type_hints(maker.__init__ if isinstance(maker, type) else maker)  # type: ignore[misc]
    for key, value in options.items():
        if key not in signature:
            known = nearest(key, signature) if signature else "it has none"
            raise ValueError(f"{kind} {name!r} has no option {key!r}; {known}")
        check_type(f"{kind} {name!r} option {key}", value, hints.get(key, Any))
    for key, parameter in signature.items():
        if key not in options and parameter.default is parameter.empty and parameter.kind in BY_NAME:
            raise ValueError(f"{kind} {name!r} needs the option {key}: {name}:{key}=...")
    try:
        return maker(**options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{kind} {name!r}: {error}") from error


def chosen(kind: str, given: Any, registry: Mapping[str, Callable[..., M]], *makers: object) -> M:
    """What a name, with options if wanted, stands for; anything else as it is.

    Raises:
        TypeError: what makes such things: a class, a maker of the registry or one of the other ``makers``.
        ValueError: see :func:`make`.
    """
    if isinstance(given, str):
        name, options = parse(given)
        return make(kind, name, registry, options)
    if isinstance(given, type) or any(given is maker for maker in (*registry.values(), *makers)):
        name = given.__name__
        raise TypeError(f"{kind}: {name} makes one; call it: {name}()")
    return given  # type: ignore[no-any-return]


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``"name:key=value,key=value"`` as a name and options; values are JSON, or else words."""
    name, _, tail = spec.partition(":")
    options = {}
    for item in filter(None, re.split(r",(?![^\[]*\])", tail)):  # not within a list
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"options are written name:key=value,key=value; got {spec!r}")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return name, options


def check_type(what: str, value: Any, hint: Any) -> None:
    """ValueError unless a value, as read from JSON or TOML, has the type that an annotation asks for."""
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:  # a type of our own, that no file can hold
        return
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ValueError(f"{what}: {error.errors()[0]['msg'].lower()}, got {value!r}") from None
