"""The files beside the code: citation, changes, checks before a commit, the lock."""

import re
import tomllib
from pathlib import Path

import yaml

import scoresde

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_has_what_the_format_demands() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["version"] == scoresde.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [one["name"] for one in PROJECT["authors"]]
    assert all(isinstance(word, str) for word in citation["keywords"])


def test_the_changes_list_this_version_and_the_numbers_that_changed() -> None:
    headings = re.findall(r"^##+ (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert scoresde.__version__ in headings
    first = headings[: headings.index(scoresde.__version__)]
    assert "Numbers that changed" in first
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Numbers that changed"}
    assert {one for one in headings if not re.fullmatch(r"Unreleased|\d+\.\d+\.\d+.*", one)} <= kinds


def test_a_commit_is_checked_as_make_check_does() -> None:
    recipe = re.search(r"^check:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    made = {line.strip().replace("$(BIN)", ".venv/bin").removesuffix(" .") for line in recipe[1].splitlines()}
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]}
    assert hooks == made


def test_the_lock_pins_the_tools_of_the_documents() -> None:
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    pinned = {line.partition("==")[0] for line in lock.splitlines()}
    extras = PROJECT["optional-dependencies"]
    for requirement in extras["docs"] + extras["dev"] + extras["test"]:
        name = re.split(r"[\[>=<]", requirement)[0].lower()
        assert name in pinned | {"scoresde"}, requirement
