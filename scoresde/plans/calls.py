"""What the source of a callable says of it: what a call changes, and the numbers and names in its code."""

import ast
import dis
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple

ENTRIES = ("__call__", "forward")


LIBRARIES = ("torch", "scoresde", "builtins")  # whose code is known by its name


# Methods that change what they are called on; those of tensors end with an underscore.
MUTATORS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("remove", "reverse", "setdefault", "sort", "update"),
}


def is_library(thing: Any) -> bool:
    """Is it of a library whose code is not looked at?"""
    return str(getattr(thing, "__module__", "")).partition(".")[0] in LIBRARIES


@lru_cache
def reached(kind: type, entries: tuple[str, ...] = ENTRIES) -> dict[str, list[FunctionType]]:
    """The methods that a call of an object may use, by name; those of libraries are left out."""
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
    """Names that a call assigns, and names whose values it changes in place."""

    assigned: set[str]
    touched: set[str]

    def settings(self, held: Mapping[str, Any]) -> dict[str, Any]:
        """What of it a call does not change. What is called itself is a setting, whatever is done to it."""
        return {
            name: value
            for name, value in held.items()
            if name not in self.assigned and (name not in self.touched or callable(value))
        }


def changed_attributes(kind: type, entries: tuple[str, ...] = ENTRIES) -> Changed:
    """Of an object; what it computes once, and keeps, counts as assigned."""
    own = [(name, value) for part in kind.__mro__ for name, value in vars(part).items()]
    changed = Changed({name for name, value in own if isinstance(value, cached_property)}, set())
    for methods in reached(kind, entries).values():
        for method in methods:
            owner = (*method.__code__.co_varnames, "")[0]  # self
            for base, name, deep in _changed(_tree(method)):
                if base == owner and name:
                    changed[deep].add(name)
    return changed


def changed_variables(function: FunctionType) -> Changed:
    """Of the variables of functions around it that a function uses."""
    changed = Changed({"__class__"}, set())
    for base, name, deep in _changed(_tree(function)):
        if base in function.__code__.co_freevars:
            changed[deep or bool(name)].add(base)
    return changed


def numbers_and_names(code: CodeType) -> tuple[frozenset[Any], frozenset[str]]:
    """The numbers that code loads, and the names of attributes and global variables that it uses."""
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
    """The parts of a constant: compilers differ in what they make one of."""
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, tuple | frozenset):
        for part in value:
            yield from _flat(part)
    else:
        yield value


def _defined(kind: type, name: str) -> Iterator[FunctionType]:
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
    """Its source; an empty tree where the source is missing, or is only a part of a line."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _changed(tree: ast.AST) -> Iterator[tuple[str, str, bool]]:
    """Of all that is changed, the variable, the attribute of it, and whether the change is within that."""
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
