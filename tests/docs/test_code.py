"""What README and pages show works: Python runs, commands run with less work, links lead somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

from scoresde import SOLVERS
from tests.docs.code import PAGES, ROOT, blocks, commands, python, shortened

README = ROOT / "README.md"
WITH_CODE = [page for page in PAGES if python(page)]


def _name(page: Path) -> str:
    return page.stem


def test_there_is_code_to_run() -> None:
    assert len(WITH_CODE) >= 8
    assert len({command for page in PAGES for command in commands(page)}) >= 15
    languages = {language for page in PAGES for language, _ in blocks(page)}
    assert languages <= {"", "python", "text"}  # nothing else is shown that nothing runs


@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_the_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = python(page)
    if any("diffusers" in block for block in code):
        pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in code:
        exec(compile(block, page.name, "exec"), names)
    x = names.get("x")
    assert x is None or x.isfinite().all()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path) -> None:
    for folder in ("configs", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    found = dict.fromkeys(command for page in PAGES for command in commands(page))
    short = [words for command in found if (words := shortened(command))]
    ran = set()
    # Training comes first: other commands use the network that it writes.
    for words in sorted(short, key=lambda words: "train" not in words):
        if tuple(words) in ran:
            continue
        ran.add(tuple(words))
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    assert len(ran) >= 6


def test_every_solver_of_the_registry_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?`) \| ", README.read_text(), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert set(SOLVERS) <= named


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http", "api/")):  # the API is in the site only
            assert (page.parent / target).exists(), target


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    tables = re.findall(r"^\|(?:-+\|)+$|^\| ?-+ ?\|.*$", text, re.MULTILINE)
    assert len(tables) <= 3
