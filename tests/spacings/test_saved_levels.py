"""Files of measured levels: the same to the last bit, and what is refused."""

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, FlowTime, prepare
from scoresde.spacings import AtShares, Measured, spacing_of
from scoresde.spacings.measured import Choice, ends_of
from tests.plans.test_saved_plans import VALUES, places
from tests.problems import sdes
from tests.spacings.test_measured import CHOICES, LEVELS


@given(sdes, st.floats(0.1, 9), st.floats(0.1, 9), st.integers(1, 9))
def test_saved_levels_are_the_same_to_the_last_bit(
    tmp_path_factory: Any, sde: SDE, exponent: float, scale: float, calls: int
) -> None:
    shares = AtShares(ends_of(sde), (0, 1))
    choices = Choice(calls, "ddim", FlowTime(exponent, scale, 1 / 3)), Choice(10 * calls, "auto", shares)
    levels = Measured(type(sde).__name__, ends_of(sde), choices, {"seed": 1, "note": "Übung"})
    path = tmp_path_factory.mktemp("levels") / "levels.json"
    levels.save(path)
    loaded = Measured.load(path)
    assert loaded == levels
    assert (loaded.about, loaded.source) == (levels.about, str(path))
    for n in (3, 30):
        assert torch.equal(loaded(sde, n), levels(sde, n))
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_the_file_goes_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "7"  # a name that is also a number
    LEVELS.save(path)
    monkeypatch.chdir(tmp_path)
    assert spacing_of("measured:file=7") == LEVELS
    assert spacing_of(f"measured:file={path}") == LEVELS
    assert prepare("ddim", "edm", 6, f"measured:file={path}") == prepare("ddim", "edm", 6, LEVELS)
    with pytest.raises(ValueError, match=re.escape("needs the option file: measured:file=...")):
        spacing_of("measured")


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = tmp_path / "levels.json"
    LEVELS.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def first(**parts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["choices"][0].update(parts)


def spaced(**parts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["choices"][1]["spacing"].update(parts)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    **{
        f"no {key}": (lambda content, key=key: content.pop(key), f"it has no '{key}'")
        for key in ("format", "process", "ends", "choices", "about")
    },
    **{
        f"no {key}": (lambda content, key=key: content["choices"][2].pop(key), f"a choice has no '{key}'")
        for key in ("calls", "solver", "spacing")
    },
    "another format": (
        lambda content: content.update(format="scoresde levels 2"),
        "its format must be 'scoresde levels 1', got 'scoresde levels 2'",
    ),
    "a process of another type": (lambda content: content.update(process=3), "process must be the name"),
    "about of text": (lambda content: content.update(about="a"), "its about must be an object, got 'a'"),
    "choices by number": (lambda content: content.update(choices={"5": {}}), "its choices must be a list"),
    "no choice": (lambda content: content["choices"].clear(), "choices must be at least one"),
    "a choice of text": (
        lambda content: content["choices"].append("x"),
        "a choice must be an object, got 'x'",
    ),
    "choices in reverse": (
        lambda content: content["choices"].reverse(),
        "rising numbers of calls, got [20, 10",
    ),
    "calls twice": (first(calls=10), "rising numbers of calls, got [10, 10, 20]"),
    "no calls": (first(calls=0), "calls must be at least 1, got 0"),
    "calls of text": (first(calls="5"), "calls must be an integer, got '5'"),
    "calls that are true": (first(calls=True), "calls must be an integer, got True"),
    "half a call": (first(calls=5.0), "calls must be an integer, got 5.0"),
    "a solver of another type": (first(solver=3), "solver must be the name of a solver, got 3"),
    "an empty solver": (first(solver=""), "solver must be the name of a solver, got ''"),
    "no levels": (first(spacing=None), "spacing must be a FlowTime or an AtShares, got None"),
    "levels by number": (first(spacing=[1.0]), "spacing must be a FlowTime or an AtShares, got [1.0]"),
    "levels without a name": (first(spacing={}), "spacing has no name"),
    "unknown levels": (first(spacing={"name": "karras"}), "unknown spacing 'karras'"),
    "an unknown option": (spaced(w=[1]), "spacing 'at-shares' has no option 'w'"),
    "no nodes": (lambda content: content["choices"][1]["spacing"].pop("u"), "needs the option u"),
    "nodes of text": (spaced(u="0.9"), "option u: input should be a valid array"),
    "a node of text": (spaced(u=["0.9", 0.1]), "option u: input should be a valid number"),
    "nodes that rise": (spaced(u=[0.1, 0.9]), "u must strictly fall within (0, 1], got 0.1 before 0.9"),
    "a node that is no number": (spaced(u=[math.nan, 0.1]), "u must strictly fall within (0, 1], got nan"),
    "a node that overflows": (spaced(u=[10**400, 0.1]), "u must strictly fall within (0, 1], got inf"),
    "a share that is no number": (
        spaced(shares=[0, math.nan]),
        "shares must strictly rise, got 0.0 before nan",
    ),
    "shares to more than 1": (spaced(shares=[0, 1.5]), "shares must be from 0 to 1, got 0.0 to 1.5"),
    "nodes of a smaller range": (spaced(u=[0.9, 0.1]), "u of a choice must hold from 0.987654321 to"),
    "a share too many": (spaced(shares=[0, 0.5, 1]), "as many of one as of the other, got 2 and 3"),
    "a scale of 0": (
        first(spacing={"name": "flow-time", "scale": 0}),
        "scale must be positive and finite, got 0",
    ),
    "a scale of NaN": (first(spacing={"name": "flow-time", "scale": math.nan}), "scale must be positive"),
    "an infinite exponent": (first(spacing={"name": "flow-time", "exponent": math.inf}), "exponent must be"),
    "one end": (lambda content: content.update(ends=[0.5]), "its ends: "),
    "ends of text": (
        lambda content: content.update(ends=["0.9", "0.1"]),
        "its ends: input should be a valid number",
    ),
    "ends that rise": (
        lambda content: content["ends"].reverse(),
        "ends must be 2 numbers that strictly fall",
    ),
    "an end that is no number": (
        lambda content: content.update(ends=[math.nan, 0.1]),
        "ends must be 2 numbers",
    ),
    "an end that overflows": (lambda content: content.update(ends=[10**400, 0.1]), "ends must be 2 numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file(fault: str, tmp_path: Path) -> None:
    change, words = FAULTS[fault]
    path = changed(tmp_path, change)
    for read in (lambda: Measured.load(path), lambda: spacing_of(f"measured:file={path}")):
        with pytest.raises(ValueError, match=re.escape(words)) as raised:
            read()
        assert f"{path} holds no measured levels: " in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["dimm", "tuned:file=a.json", "ddim:et=1", "ode:rtol=-1", "/etc"])
def test_a_solver_that_is_none_is_named_with_the_file_of_the_levels(name: str, tmp_path: Path) -> None:
    """Where the choice is used; the levels alone, with another solver, need none."""
    path = changed(tmp_path, first(solver=name))
    spec = f"measured:file={path}"
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))}, choice for 5 calls: .*solver '"
    ) as raised:
        prepare("auto", "edm", 6, spec)
    assert "\n" not in str(raised.value)
    assert prepare("ddim", "edm", 6, spec).nfe == prepare("auto", "edm", 20, spec).nfe - 14 == 6


@pytest.mark.parametrize("content", [None, 3, "levels", [], {}, [{}], math.nan])
def test_what_is_no_levels_at_all_is_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "levels.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"levels\.json holds no measured levels: it (must be an object|has no)"
    ):
        Measured.load(tmp_path / "levels.json")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\x00\xff", b"\xef\xbb\xbf{}", b"[" * 10**5, b'{"format":' * 10**5, b"9" * 5000],
    ids=["empty", "cut", "bytes", "byte order mark", "deep list", "deep object", "long number"],
)
def test_a_file_that_is_no_json_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    path.write_bytes(text)
    for file in (path, tmp_path, tmp_path / "none.json"):  # a folder; no file
        with pytest.raises(ValueError, match=f"^{re.escape(str(file))} holds no measured levels: "):
            Measured.load(file)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    LEVELS.save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="holds no measured levels"):
            Measured.load(path)


def test_a_file_with_any_one_thing_changed_is_refused_or_is_levels(tmp_path: Path) -> None:
    path, generator, refused = tmp_path / "levels.json", random.Random(0), 0
    LEVELS.save(path)
    whole = path.read_text()
    for _ in range(400):
        content = json.loads(whole)
        holder, key = generator.choice(
            [place for place in places(content) if place[0] is not content["about"]]
        )
        holder[key] = generator.choice(VALUES)
        path.write_text(json.dumps(content))
        message = f"{path} holds no measured levels: "
        try:
            levels = Measured.load(path)
        except ValueError as error:
            message = str(error)
            refused += 1
        else:
            levels.save(tmp_path / "again.json")
            assert Measured.load(tmp_path / "again.json") == levels
        assert message.startswith(f"{path} holds no measured levels: ")
        assert len(message) < 600
    assert 280 < refused < 400


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    LEVELS.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        Measured("EDM", ends_of(EDM()), CHOICES, {"a": object()}).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
