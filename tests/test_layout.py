"""The layout of the code: sizes of files and functions, packages, folders of tests, direction of imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(file for folder in ("scoresde", "benchmarks") for file in (ROOT / folder).rglob("*.py"))
PACKAGES = sorted(file.parent for file in (ROOT / "scoresde").rglob("__init__.py"))
LONGEST_FILE, LONGEST_FUNCTION = 300, 40  # lines


def docstring_lines(function):
    first = function.body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return 0
    return first.end_lineno - first.lineno + 1 if isinstance(first.value.value, str) else 0


def too_long(text):
    """Name and lines of each function of a module that is too long, without its docstring."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [part for part in ast.walk(ast.parse(text)) if isinstance(part, kinds)]
    sizes = [(f.name, f.end_lineno - f.lineno + 1 - docstring_lines(f)) for f in functions]
    return [(name, size) for name, size in sizes if size > LONGEST_FUNCTION]


def listed(violations):
    return "\n".join(["", *violations])


def test_a_function_is_measured_without_its_docstring():
    body = "    x = 1\n" * 39
    docstring = '    """One.\n\n    More.\n    """\n'
    assert too_long(f"def f():\n{body}") == too_long(f"def f():\n{docstring}{body}") == []
    assert too_long(f"def f():\n    x = 1\n{body}def f():\n    x = 1\n") == [("f", 41)]
    inner = body.replace("    ", " " * 12)
    assert too_long(f"class C:\n    def f(self):\n        def g():\n{inner}") == [("f", 41)]


def test_no_file_is_longer_than_300_lines():
    sizes = {file: len(file.read_text().splitlines()) for file in FILES}
    violations = [f"{file.relative_to(ROOT)}: {n}" for file, n in sizes.items() if n > LONGEST_FILE]
    assert not violations, listed(violations)


def test_no_function_is_longer_than_40_lines():
    violations = [
        f"{file.relative_to(ROOT)}: {name}, {lines}"
        for file in FILES
        for name, lines in too_long(file.read_text())
    ]
    assert not violations, listed(violations)


def test_every_folder_of_modules_is_a_package_that_says_what_it_is():
    folders = {file.parent for file in FILES if "scoresde" in file.relative_to(ROOT).parts}
    violations = [
        str(folder.relative_to(ROOT))
        for folder in folders
        if folder not in PACKAGES or not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    ]
    assert not violations, listed(violations)


def test_the_folders_of_tests_are_those_of_the_code():
    """``tests/NAME`` is for ``scoresde/NAME``, or for a folder beside it."""
    code = {folder.name for folder in PACKAGES if folder.parent == ROOT / "scoresde"}
    top = ROOT / "tests"
    tests = {file.relative_to(top).parts[0] for file in top.rglob("test_*.py") if file.parent != top}
    missing = sorted(code - tests)
    violations = [f"scoresde/{name} has no folder of tests" for name in missing]
    others = sorted(name for name in tests - code if not (ROOT / name).is_dir())
    violations += [f"tests/{name} is for no folder" for name in others]
    assert not violations, listed(violations)


def test_imports_run_one_way():
    pytest.importorskip("importlinter")
    command = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_import_is_exempt_from_the_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    violations = [contract["name"] for contract in contracts if "ignore_imports" in contract]
    assert not violations, listed(violations)
