"""What ``import scoresde`` loads, and what it leaves for whoever needs it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scoresde

ROOT = Path(__file__).parent.parent

# In a process of its own: torch first, so that what torch loads by itself is not counted.
FRESH = """
import sys, torch
def refuse(*arguments, **options):
    raise AssertionError("compiled at import")
torch.compile, before = refuse, set(sys.modules)
for statement in sys.argv[1:]:
    exec(statement)
    new = set(sys.modules) - before
    found = {name if name.startswith("torch.") else name.partition(".")[0] for name in new}
    print(*sorted(found))
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Packages, and modules of torch, that a fresh process has loaded after each of these statements."""
    statements = [
        "import scoresde",
        "scoresde.spacing_of('karras')",
        "scoresde.spacing_of('karras:rho=5')",
        "scoresde.spacing_of('beta')(scoresde.EDM(), 4)",
        "scoresde.prepare('ode', scoresde.EDM(), 4)",
    ]
    command = [sys.executable, "-W", "error", "-c", FRESH, *statements]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    lines = [set(line.split()) for line in run.stdout.splitlines()]
    return dict(zip(statements, lines, strict=True))


def test_import_compiles_nothing_and_loads_little(loaded: dict[str, set[str]]) -> None:
    found = loaded["import scoresde"]
    assert "scoresde" in found
    others = {name for name in found if name not in sys.stdlib_module_names and name[0] != "_"}
    assert others <= {"filelock", "numpy", "safetensors", "scoresde", "tqdm"}, others
    assert not any(name.startswith(("torch._dynamo", "torch._inductor")) for name in found), found


def test_what_was_left_out_is_loaded_when_it_is_used(loaded: dict[str, set[str]]) -> None:
    """Each of these would have been seen in the first test."""
    assert "pydantic" not in loaded["scoresde.spacing_of('karras')"]
    assert "pydantic" in loaded["scoresde.spacing_of('karras:rho=5')"]
    assert "scipy" in loaded["scoresde.spacing_of('beta')(scoresde.EDM(), 4)"]
    assert "torchdiffeq" in loaded["scoresde.prepare('ode', scoresde.EDM(), 4)"]


def test_all_names_are_there() -> None:
    assert len(set(scoresde.__all__)) == len(scoresde.__all__)
    for name in scoresde.__all__:
        assert getattr(scoresde, name) is not None
    assert set(scoresde.__all__) <= set(dir(scoresde))
    with pytest.raises(AttributeError, match="'scoresde' has no attribute 'tuned_samples'"):
        _ = scoresde.tuned_samples


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", scoresde.__version__)
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "scoresde.__version__"}
