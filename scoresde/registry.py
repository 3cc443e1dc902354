"""Registries: build an entry from a name and options, with clear errors.

An entry is a frozen dataclass: a class, or an instance whose fields are the defaults of its name. Entries
can be printed, compared, hashed, copied and pickled.
"""

import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, get_type_hints

from .aliases import ALIASES, RENAMED_OPTIONS, bare, plain

M = TypeVar("M")

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

# From the annotation of an option to the function that builds its value from a word: a solver from its name.
Nested = Mapping[Any, Callable[[Any], Any]]


def build(kind: str, registry: Mapping[str, Any], given: Any, nested: Nested | None = None) -> Any:
    """The entry for ``given``, if it is a name or options; ``given`` itself if it is neither.

    Args:
        kind: what the registry holds, for messages: "solver", "spacing".
        registry: name -> entry.
        given: a spec ``"name:key=value,key=value"``, or a mapping ``{"name": ..., key: value}``.
        nested: from the annotation of an option to the function that builds its value from a spec, a mapping
            or an object.

    Raises:
        TypeError: a class of the registry in place of an instance.
        ValueError: an unknown name or option, a missing option, or an option of the wrong type or value.
    """
    if isinstance(given, str):
        return make(kind, registry, *parse(given), nested or {})
    if isinstance(given, Mapping):
        options = dict(given)
        return make(kind, registry, options.pop("name", None), options, nested or {})
    if isinstance(given, type) or any(
        given is entry for entry in registry.values() if inspect.isfunction(entry)
    ):
        raise TypeError(f"{kind}: {given.__name__} is a class; call it: {given.__name__}()")
    return given


def make(
    kind: str, registry: Mapping[str, Any], name: Any, options: Mapping[str, Any], nested: Nested
) -> Any:
    """The entry ``name`` with these options, each checked against its annotation."""
    entry = lookup(kind, name, registry)
    is_maker = isinstance(entry, type) or inspect.isfunction(entry)
    maker = entry if is_maker else type(entry)
    signature = inspect.signature(maker).parameters
    hints = get_type_hints(maker.__init__ if isinstance(maker, type) else maker)  # type: ignore[misc]
    values = {}
    for key, value in options.items():
        if key not in signature:
            known = nearest(str(key), signature, RENAMED_OPTIONS) if signature else "it has none"
            raise ValueError(f"{kind} {name!r} has no option {key!r}; {known}")
        hint = hints.get(key, Any)
        inner = next((of for other, of in nested.items() if other == hint), None)
        if inner:  # a word that is also JSON is a word: a file may have the name 7
            values[key] = inner(str(value) if isinstance(value, int | float | list | None) else value)
        else:
            values[key] = typed(f"{kind} {name!r} option {key}", value, hint)
    for key, parameter in signature.items() if is_maker else ():
        if key not in options and parameter.default is parameter.empty and parameter.kind in BY_NAME:
            raise ValueError(f"{kind} {name!r} needs the option {key}: {name}:{key}=...")
    try:
        built = maker if is_maker else partial(replace, entry)
        return built(**values) if values or is_maker else entry
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:  # torch raises RuntimeError
        raise ValueError(f"{kind} {name!r}: {error}") from error


def lookup(kind: str, name: Any, registry: Mapping[str, M]) -> M:
    """The entry ``name`` of a registry; ValueError with the nearest name if it has no such entry."""
    if name is None:
        raise ValueError(f"{kind} has no name; known: {', '.join(sorted(registry))}")
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"unknown {kind} {name!r}; {nearest(str(name), registry, ALIASES.get(kind))}")
    return registry[name]


def nearest(word: str, known: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """A hint: the known name that ``word`` may mean or is most similar to, then all known names."""
    names = sorted(known)
    others = {plain(name): repr(name) for name in names}
    for alias, name in (aliases or {}).items():
        if name.partition(":")[0] in names:
            others[alias] = repr(name)
        elif " " in name:  # words to print as they are
            others[alias] = name
    close = difflib.get_close_matches(word, names, 1, 0.5)
    hint = others.get(plain(word)) or others.get(bare(plain(word))) or "".join(map(repr, close))
    return (f"did you mean {hint}? " if hint else "") + f"known: {', '.join(names)}"


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """``"name:key=value,key=value"`` as a name and options; values are JSON, or else words."""
    name, _, tail = spec.partition(":")
    options = {}
    for item in filter(None, _items(tail)):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"options are written name:key=value,key=value; got {spec!r}")
        if key in options:
            raise ValueError(f"each option is given once; got {key} twice in {spec!r}")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):  # not JSON, or a number or a nesting beyond the limits of Python
            options[key] = value
    return name, options


def _items(tail: str) -> Iterator[str]:
    """The parts between the commas outside all brackets."""
    depth, start = 0, 0
    for i, character in enumerate(tail):
        depth += (character in "[{") - (character in "]}")
        if character == "," and not depth:
            yield tail[start:i]
            start = i + 1
    yield tail[start:]


def typed(what: str, value: Any, hint: Any) -> Any:
    """A value from JSON or TOML as the type of an annotation; ValueError if it has another type."""
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except PydanticSchemaGenerationError:  # a type of the library: only Python code can give its values
        return value
    try:
        return adapter.validate_json(json.dumps(value), strict=True)
    except TypeError:  # of json
        what = f"{what}: input should be numbers, text, lists or mappings of these"
        raise ValueError(f"{what}, got {type(value).__name__}") from None
    except ValidationError as error:
        raise ValueError(f"{what}: {error.errors()[0]['msg'].lower()}, got {value!r:.200}") from None


def as_floats(entry: object, *names: str) -> None:
    """Make fields of a frozen dataclass Python floats: ``Karras(7)`` prints as ``Karras(rho=7.0)``."""
    for name in names:
        object.__setattr__(entry, name, float(getattr(entry, name)))
