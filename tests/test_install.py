"""Installations: the Python that makes them, and the extras and files that they have."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scoresde.cli.main import main
from scoresde.command import EXTRAS
from scoresde.training.configuration import CONFIGURATIONS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def make(folder, pythons, *arguments):
    """Run make in a copy of the files that it needs, with these Pythons only: name and version."""
    tools, work = folder / "bin", folder / "work"
    for path in (tools, work):
        path.mkdir()
    for name in ("make", "false"):
        (tools / name).symlink_to(shutil.which(name))
    for name, (major, minor) in pythons.items():
        (tools / name).write_text(
            f'#!{sys.executable}\nimport sys\nif sys.argv[1] == "-V":\n    print("Python {major}.{minor}")\n'
            f'elif sys.argv[1] == "-c":\n    sys.version_info = {(major, minor, 0)}\n    exec(sys.argv[2])\n'
            f"else:\n    sys.exit(9)\n"
        )
        (tools / name).chmod(0o755)
    for name in ("Makefile", "requirements.lock", "requirements-peers.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, work)
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON")  # set where make runs the tests
    environment = {key: value for key, value in os.environ.items() if key not in of_make}
    return subprocess.run(
        ["make", *arguments, ".venv/installed"],
        cwd=work,
        env=environment | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("pythons", "arguments", "taken"),
    [
        ({"python3": (3, 11)}, [], "python3"),
        ({"python3": (3, 13), "python3.11": (3, 11)}, [], "python3"),
        ({"python3": (3, 9), "python3.11": (3, 11)}, [], "python3.11"),
        ({"python3": (3, 10), "python3.12": (3, 12), "python3.13": (3, 13)}, [], "python3.13"),
        ({"python3.14": (3, 14)}, [], "python3.14"),
        ({"python3": (3, 12), "mine": (3, 11)}, ["PYTHON=mine"], "mine"),
    ],
)
def test_make_takes_any_python_that_is_new_enough(pythons, arguments, taken, tmp_path):
    done = make(tmp_path, pythons, *arguments)
    assert done.stdout.splitlines() == [f"{taken} -m venv .venv"]
    assert "Error 9" in done.stderr  # of the imitation of Python


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("pythons", "arguments", "found"),
    [
        ({"python3": (3, 9)}, [], "Python 3.9;"),
        ({}, [], "none;"),
        ({"python3": (3, 12), "old": (3, 8)}, ["PYTHON=old"], "Python 3.8;"),
    ],
)
def test_make_says_which_python_it_needs_and_found(pythons, arguments, found, tmp_path):
    done = make(tmp_path, pythons, *arguments)
    assert done.returncode == 2
    line, rule = done.stderr.splitlines()
    assert line.startswith(f"Python 3.11 or newer is needed, found {found}")
    assert rule.startswith("make: ***")
    assert done.stdout == ""


def test_the_lock_pins_what_the_installation_itself_needs():
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lock}
    assert all("==" in line for line in lock)
    for requirement in PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]:
        assert requirement.partition(">")[0] in pinned


# ------------------------------------------------------------------------------------- a plain installation


def test_every_extra_that_is_named_is_one():
    extras = PROJECT["project"]["optional-dependencies"]
    distributions = {"sklearn": "scikit-learn", "torch_fidelity": "torch-fidelity"}
    for module, extra in EXTRAS.items():
        assert any(item.startswith(distributions.get(module, module)) for item in extras[extra])


def test_what_a_plain_installation_lacks_is_named_with_its_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["train", "--config", "digits", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sklearn" in line
    assert line.endswith("pip install 'scoresde[bench]'")
    assert not (tmp_path / "out").exists()


def test_every_file_of_the_package_is_installed():
    package = ROOT / "scoresde"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["scoresde"]
    installed = {file for pattern in patterns for file in package.glob(pattern)}
    assert package / "pretrained" / "mnist" / "MODEL_CARD.md" in installed
    files = {file for file in package.rglob("*") if file.is_file()}
    assert {file for file in files if file.suffix not in (".py", ".pyc")} <= installed


def test_the_configurations_that_users_see_are_those_of_the_package():
    seen = sorted((ROOT / "configs").glob("*.toml"))
    assert seen
    assert [path.stem for path in seen] == list(CONFIGURATIONS)
    for path in seen:
        assert CONFIGURATIONS[path.stem].samefile(path)  # a link, and no copy
    assert "configs/*.toml" in PROJECT["tool"]["setuptools"]["package-data"]["scoresde"]
