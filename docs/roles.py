"""Docstrings name objects as ``:class:`Plan```; the site shows these as links to where they are described."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc|obj):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Replace every role by a link, or by code where the site describes no such object."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """All docstrings of the package, after it is loaded."""
        _walk(pkg, pkg)


def _walk(owner: griffe.Object, package: griffe.Module) -> None:
    if owner.docstring:
        text = owner.docstring.value
        owner.docstring.value = ROLE.sub(lambda role: _link(role[1], owner, package), text)
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            _walk(member, package)


def _link(name: str, owner: griffe.Object, package: griffe.Module) -> str:
    path = name if name.startswith(f"{package.path}.") else _resolved(name, owner)
    return f'<autoref optional identifier="{_canonical(path, package)}"><code>{name}</code></autoref>'


def _resolved(name: str, owner: griffe.Object) -> str:
    """The full path of a name as the module of its docstring knows it."""
    first, *rest = name.split(".")
    try:
        return ".".join([owner.resolve(first), *rest])
    except griffe.NameResolutionError:
        return name


def _canonical(path: str, package: griffe.Module) -> str:
    """Where the object is defined, of a path through any module that imports it."""
    try:
        found: griffe.Object = package[path.removeprefix(f"{package.path}.").split(".")]
        return found.canonical_path
    except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
        return path
