"""What the code of a callable shows: the state that a call changes, and the numbers and names in it."""

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

ENTRIES = ("__call__", "forward")  # the methods that a call starts with
LIBRARIES = ("torch", "scoresde", "builtins")  # their code counts by its name only

# Methods that change their object. Methods of tensors that do so end with an underscore.
MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("remove", "reverse", "setdefault", "sort", "update"),
}


def is_library(thing: Any) -> bool:
    """Is it part of a library whose code counts by its name only?"""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in LIBRARIES


@lru_cache
def reached(kind: type, entries: tuple[str, ...] = ENTRIES) -> dict[str, list[FunctionType]]:
    """The methods that a call of an object may use, by name, without the methods of libraries.

    Args:
        kind: the class of the object.
        entries: the methods that the call starts with.
    """
    found: dict[str, list[FunctionType]] = {}
    todo = list(entries)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = list(_defined(kind, name))
        for method in found[name]:
            for node in ast.walk(_tree(method)):
                todo += [node.attr] if isinstance(node, ast.Attribute) else []
    return {name: methods for name, methods in found.items() if methods}


class Changed(NamedTuple):
    """The names that a call assigns, and the names whose values it changes in place."""

    assigned: set[str]
    touched: set[str]

    def settings(self, held: Mapping[str, Any]) -> dict[str, Any]:
        """The names and values that a call does not change. A callable that is changed in place counts."""
        return {
            name: value
            for name, value in held.items()
            if name not in self.assigned and (name not in self.touched or callable(value))
        }


def changed_attributes(kind: type, entries: tuple[str, ...] = ENTRIES) -> Changed:
    """The attributes of an object that a call changes. A cached property counts as assigned.

    Args:
        kind: the class of the object.
        entries: the methods that the call starts with.
    """
    own = [(name, value) for part in kind.__mro__ for name, value in vars(part).items()]
    changed = Changed({name for name, value in own if isinstance(value, cached_property)}, set())
    for methods in reached(kind, entries).values():
        for method in methods:
            owner = (*method.__code__.co_varnames, "")[0]  # the name of self
            for base, name, deep in _changed(_tree(method)):
                if base == owner and name:
                    changed[deep].add(name)
    return changed


def changed_variables(function: FunctionType) -> Changed:
    """The variables of enclosing functions that a call of this function changes."""
    changed = Changed({"__class__"}, set())
    for base, name, deep in _changed(_tree(function)):
        if base in function.__code__.co_freevars:
            changed[deep or bool(name)].add(base)
    return changed


def numbers_and_names(code: CodeType) -> tuple[frozenset[Any], frozenset[str]]:
    """The numbers in code, and the names of attributes and global variables that it uses."""
    numbers: set[Any] = set()
    names = set(code.co_names)
    for instruction in dis.get_instructions(code):
        if "LOAD_CONST" in instruction.opname or "LOAD_SMALL_INT" in instruction.opname:
            for value in _flat(instruction.argval):
                if isinstance(value, CodeType):
                    inner = numbers_and_names(value)
                    numbers, names = numbers | inner[0], names | inner[1]
                elif isinstance(value, int | float | complex) and not isinstance(value, bool):
                    numbers.add(value)
    return frozenset(numbers), frozenset(names)


def _flat(value: Any) -> Iterator[Any]:
    """The parts of a constant. Versions of Python differ in what they combine into one constant."""
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, tuple | frozenset):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _defined(kind: type, name: str) -> Iterator[FunctionType]:
    """The methods or properties of this name in a class and its bases, without methods of libraries."""
    for part in kind.__mro__:
        own: Any = vars(part).get(name)
        if isinstance(own, property):
            own = own.fget
        elif isinstance(own, cached_property):
            own = own.func
        own = inspect.unwrap(getattr(own, "__func__", own))
        if isinstance(own, FunctionType) and not is_library(own):
            yield own


@lru_cache(512)
def _tree(function: FunctionType) -> ast.AST:
    """The syntax tree of a function; an empty tree if its source is missing, or only a part of a line."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _changed(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """All changes in a syntax tree.

    Each is the name of a variable, the name of its attribute, "" for the variable itself, and whether the
    value is changed in place rather than assigned.
    """
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        called = isinstance(node, ast.Call)
        if isinstance(node, ast.Assign | ast.Delete):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.NamedExpr):
            targets = [node.target]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = node.func.attr
            if name in MUTATORS or (name.endswith("_") and not name.endswith("__")):
                targets = [node.func.value]
        for target in targets:
            for base, name, deep in _roots(target):
                yield base, name, deep or called


def _roots(node: ast.expr) -> Iterator[tuple[str, str, bool]]:
    """The same for one target of a change, such as ``a``, ``a.b``, ``a.b[0]`` or several of them."""
    if isinstance(node, ast.Tuple | ast.List):
        for part in node.elts:
            yield from _roots(part)
        return
    attribute, depth = "", 0
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        attribute = node.attr if isinstance(node, ast.Attribute) else ""
        depth += not isinstance(node, ast.Starred)
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id, attribute, depth > bool(attribute)
