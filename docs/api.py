"""One page for each package of the library, from its docstrings; the first lists the public names."""

from pathlib import Path
from types import ModuleType

import scoresde

PACKAGE = Path(scoresde.__file__).parent


def navigation() -> list[object]:
    """The pages: the public names, then the packages by name."""
    return [{"Public names": "api/index.md"}, *({name: f"api/{name}.md"} for name in packages())]


def packages() -> list[str]:
    """The folders of the library that hold modules, and ``scoresde`` for the modules beside them."""
    return ["scoresde", *sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))]


def pages() -> dict[str, str]:
    """Every page by its file name, as Markdown that the builder fills in."""
    found = {f"{name}.md": _page(name) for name in packages()}
    return {"index.md": _public(), **found}


def _page(name: str) -> str:
    folder = PACKAGE if name == "scoresde" else PACKAGE / name
    paths = folder.glob("*.py") if name == "scoresde" else folder.rglob("*.py")
    prefix = "scoresde" if name == "scoresde" else f"scoresde.{name}"
    modules = []
    for path in sorted(paths):
        parts = path.relative_to(folder).with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            modules.append(".".join([prefix, *parts]))
    return "\n\n".join([f"# {prefix}", *(f"::: {module}" for module in modules)]) + "\n"


def _public() -> str:
    """The names of ``scoresde.__all__``, each a link to where it is described."""
    head = "# Public names\n\n`import scoresde` brings these names. Each links to its description.\n"
    names = sorted(scoresde.__all__, key=str.lower)
    return "\n".join([head, *(f"- [`{name}`][{path_of(name)}]" for name in names)]) + "\n"


def path_of(name: str) -> str:
    """The full path of a public name: where it is defined, and of a constant its module."""
    item = getattr(scoresde, name)
    if isinstance(item, ModuleType):
        return item.__name__
    if hasattr(item, "__qualname__"):
        return f"{item.__module__}.{item.__qualname__}"
    return _assigning(name)


def _assigning(name: str) -> str:
    """The module of the library that assigns a constant, found by its source."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if any(line.startswith((f"{name}:", f"{name} =")) for line in path.read_text().splitlines()):
            return ".".join(["scoresde", *path.relative_to(PACKAGE).with_suffix("").parts])
    raise ValueError(f"no module of the library assigns {name}")
