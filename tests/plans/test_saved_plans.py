"""Saved plans: the same to the last bit, what is refused, and the JSON Schema of the file."""

import json
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator

from scoresde import EDM, VPSDE, Plan, RectifiedFlow, integrate
from scoresde.plans.saved import SCHEMA
from scoresde.sampling.tuned import SHIPPED
from scoresde.solvers import PredictorCorrector
from tests.problems import TABLES, mixture, normal

PLANS = sorted(SHIPPED.glob("tuned-*.json"))
MEASURED = Plan.make(PredictorCorrector(measured=True), VPSDE(), 3)
ABOUT = replace(Plan.make(TABLES["ancestral"], EDM(), 3), about={"nfe": 3, "deep": [{"a": None}]})


@cache
def validator() -> Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("to_clean", [False, True])
def test_a_saved_plan_is_the_same_plan(name: str, to_clean: bool, tmp_path: Path) -> None:
    plan = Plan.make(TABLES[name], RectifiedFlow() if name == "ddim" else VPSDE(), 7, to_clean=to_clean)
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan  # every weight and level to the last bit
    noise = [normal(5, seed=i) for i in range(40)]
    runs = [integrate(p, mixture, normal(5, seed=99), lambda i: noise[i]) for p in (plan, loaded)]
    assert torch.equal(*runs)


def test_a_measured_plan_is_saved_too(tmp_path: Path) -> None:
    MEASURED.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == MEASURED
    assert json.loads((tmp_path / "plan.json").read_text())["format"] == "scoresde plan 1"


def test_the_plans_that_ship_are_saved_as_they_are(tmp_path: Path) -> None:
    """Byte for byte: the format is that of the files that there are."""
    assert len(PLANS) == 5
    for path in PLANS:
        Plan.load(path).save(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", TABLES)
def test_a_plan_is_part_of_any_json(name: str) -> None:
    """Lists, texts and numbers alone: what comes back from JSON is the same dictionary, and the same plan."""
    for to_clean in (False, True):
        plan = replace(Plan.make(TABLES[name], VPSDE(), 5, to_clean=to_clean), about={"nfe": 5})
        content = plan.to_dict()
        again = json.loads(json.dumps({"sampler": content}))["sampler"]
        assert again == content
        loaded = Plan.from_dict(again)
        assert loaded == plan
        assert loaded.about == plan.about
        assert loaded.to_dict() == content


@pytest.mark.parametrize("name", TABLES)
def test_the_plans_of_all_solvers_follow_the_schema(name: str) -> None:
    for sde in (VPSDE(), RectifiedFlow() if name in ("ddim", "velocity-adams") else EDM()):
        for to_clean in (False, True):
            validator().validate(Plan.make(TABLES[name], sde, 6, to_clean=to_clean).to_dict())


def test_the_plans_that_ship_follow_the_schema() -> None:
    for path in PLANS:
        validator().validate(json.loads(path.read_text()))
    for plan in (MEASURED, ABOUT):
        validator().validate(plan.to_dict())


# What is done to the content of a plan, and what the message says of it.
Change = Callable[[dict[str, Any]], object]


def of_lines(change: Callable[[list[dict[str, Any]]], object]) -> Change:
    return lambda content: change(content["lines"])


def first(**parts: Any) -> Change:
    """The first line, d0, with other parts."""
    return lambda content: content["lines"][0].update(parts)


def second(**parts: Any) -> Change:
    """The second line, x1 = a x0 + b d0 + c z0, with other parts."""
    return lambda content: content["lines"][1].update(parts)


def level(at: int, number: str) -> list[str]:
    numbers = ["0x1p+0", "0x1p+0", "0x1p+0", "0x0p+0"]
    numbers[at] = number
    return numbers


# Faults of structure: a schema can see them.
STRUCTURAL: dict[str, tuple[Change, str]] = {
    "no format": (lambda content: content.pop("format"), "it has no 'format'"),
    "another format": (lambda content: content.update(format="scoresde plan 2"), "got 'scoresde plan 2'"),
    "format of another type": (lambda content: content.update(format=[1]), r"got \[1\]"),
    "no start": (lambda content: content.pop("start"), "it has no 'start'"),
    "no end": (lambda content: content.pop("end"), "it has no 'end'"),
    "no lines": (lambda content: content.pop("lines"), "it has no 'lines'"),
    "start null": (lambda content: content.update(start=None), "start and end must be levels, got null"),
    "lines of text": (lambda content: content.update(lines="d0"), "lines must be a list, got 'd0'"),
    "lines by number": (lambda content: content.update(lines={"0": {}}), "lines must be a list"),
    "no line": (of_lines(list.clear), "does not end with a state"),
    "a line of text": (of_lines(lambda lines: lines.append("x9")), "a line must be an object, got 'x9'"),
    "about of text": (lambda content: content.update(about="mnist"), "about must be an object, got 'mnist'"),
    "no name": (of_lines(lambda lines: lines[0].pop("name")), "a line has no 'name'"),
    "no row": (of_lines(lambda lines: lines[0].pop("row")), "'d0' has no 'row'"),
    "no level": (of_lines(lambda lines: lines[1].pop("level")), "'x1' has no 'level'"),
    "no measured": (of_lines(lambda lines: lines[1].pop("measured")), "'x1' has no 'measured'"),
    "a name of another type": (first(name=3), "the name of a line must be text, got 3"),
    "a name without a number": (first(name="d"), "'d' is no name of a new vector, which is d and a number"),
    "a name with a zero": (first(name="d01"), "'d01' is no name of a new vector"),
    "a name of eleven digits": (first(name="d12345678901"), "'d12345678901' is no name"),
    "a name of another alphabet": (first(name="d\u0663"), "is no name of a new vector"),
    "an empty name": (first(name=""), "'' is no name of a new vector"),
    "a draw of noise as a line": (second(name="z0"), "'z0' is no name of a new vector, which is x or h"),
    "a state with a level": (second(level=level(0, "0x1p+0")), "'x1' is no name of a new vector, which is d"),
    "an output without a level": (first(level=None), "'d0' is no name of a new vector, which is x or h"),
    "an empty row": (first(row=[]), "d0 is made of nothing"),
    "a row by name": (first(row={"x0": 1.0}), "the row of line 'd0' must be a list"),
    "a term of three": (first(row=[["x0", 1.0, 2.0]]), "must be a name and a weight"),
    "a term without a weight": (first(row=[["x0"]]), r"must be a name and a weight, got \['x0'\]"),
    "a term of another type": (first(row=["x0"]), "must be a name and a weight, got 'x0'"),
    "a weight of text": (first(row=[["x0", "1.0"]]), "the weight on 'x0' of line 'd0' must be a number"),
    "a weight that is true": (first(row=[["x0", True]]), "must be a number, got True"),
    "a weight null": (first(row=[["x0", None]]), "must be a number, got None"),
    "a term of another name": (first(row=[["zz", 1.0]]), "d0 is made of zz, which no line before it makes"),
    "a level of numbers": (first(level=[1.0, 1.0, 1.0, 0.0]), "four hexadecimal numbers as text"),
    "a level of three": (first(level=level(0, "0x1p+0")[:3]), "four hexadecimal numbers as text"),
    "a level of text": (first(level="0x1p+0"), "four hexadecimal numbers as text"),
    "a level of words": (first(level=level(1, "one")), "hexadecimal"),
    "a negative sigma": (first(level=level(2, "-0x1p+0")), "alpha and sigma not negative"),
    "a negative alpha": (first(level=level(1, "-0x1p+0")), "alpha and sigma not negative"),
    "an infinite sigma": (first(level=level(2, "inf")), "t, alpha and sigma finite"),
    "a lambda that is no number": (first(level=level(3, "nan")), "lambda not NaN"),
    "a start that is no number": (
        lambda content: content.update(start=["nan"] * 4),
        "numbers that a process",
    ),
    "a measured output": (first(measured=[[["x0", 1.0]], 0.1]), "d0 is no state, with noise added last"),
    "a measured state of one term": (
        second(row=[["z0", 1.0]], measured=[[["x0", 1.0]], 0.1]),
        "x1 is no state, with noise added last",
    ),
    "measured of three": (second(measured=[[["x0", 1.0]], 0.1, 1]), "must be a row and a number"),
    "measured by nothing": (second(measured=[[], 0.1]), "x1 is made of nothing"),
    "a signal-to-noise ratio of 0": (second(measured=[[["d0", 1.0]], 0]), "signal-to-noise ratio 0.0"),
    "a signal-to-noise ratio of text": (second(measured=[[["d0", 1.0]], "1"]), "must be a number, got '1'"),
}

# Faults of meaning: only a reader sees them.
SEMANTIC: dict[str, tuple[Change, str]] = {
    "a name used before it exists": (
        of_lines(lambda lines: lines.pop(0)),
        "made of d0, which no line before",
    ),
    "lines in reverse": (of_lines(list.reverse), "which no line before it makes"),
    "a vector of itself": (second(row=[["x1", 1.0]]), "x1 is made of x1, which no line before it makes"),
    "a name twice": (of_lines(lambda lines: lines.insert(1, lines[0])), "'d0' is no name of a new vector"),
    "the start made anew": (of_lines(lambda lines: lines[-1].update(name="x0")), "'x0' is no name of a new"),
    "an end that is an output": (of_lines(lambda lines: lines.pop()), "does not end with a state"),
    "a weight that is no number": (first(row=[["x0", math.nan]]), "d0 has the weight nan on x0"),
    "an infinite weight": (first(row=[["x0", -math.inf]]), "d0 has the weight -inf on x0"),
    "a weight that overflows": (first(row=[["x0", 10**400]]), r"below 2\^1024"),
    "a level that overflows": (first(level=level(2, "0x1p+9999")), r"below 2\^1024"),
    "noise not added last": (
        second(row=[["z0", 1.0], ["x0", 1.0]], measured=[[["d0", 1.0]], 0.1]),
        "x1 is no state, with noise added last",
    ),
    "a score of what is not there": (second(measured=[[["d7", 1.0]], 0.1]), "x1 is made of d7, which no"),
    "an infinite signal-to-noise ratio": (second(measured=[[["d0", 1.0]], math.inf]), "ratio inf"),
    "a score that is no number": (second(measured=[[["d0", math.nan]], 0.1]), "x1 has the weight nan on d0"),
}


@pytest.mark.parametrize("fault", [*STRUCTURAL, *SEMANTIC])
def test_a_fault_is_named_with_its_file(fault: str, tmp_path: Path) -> None:
    change, word = (STRUCTURAL | SEMANTIC)[fault]
    content = json.loads(json.dumps(ABOUT.to_dict()))
    change(content)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=word) as raised:
        Plan.load(path)
    assert str(raised.value).startswith(f"{path} is no plan of scoresde: ")
    with pytest.raises(ValueError, match=word):
        Plan.from_dict(content)


@pytest.mark.parametrize("fault", STRUCTURAL)
def test_a_fault_of_structure_is_refused_by_the_schema_too(fault: str) -> None:
    content = json.loads(json.dumps(ABOUT.to_dict()))
    assert validator().is_valid(content)
    STRUCTURAL[fault][0](content)
    assert not validator().is_valid(content)


@pytest.mark.parametrize("content", [None, 3, "plan", [], {}, [{}], math.nan])
def test_what_is_no_plan_at_all_is_refused(content: Any, tmp_path: Path) -> None:
    assert not validator().is_valid(content)
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"plan\.json is no plan of scoresde: it (must be an object|has no)"):
        Plan.load(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=r"it (must be an object|has no)"):
        Plan.from_dict(content)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\x00\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 10**5,
        b'{"format":' * 10**5,
        b"9" * 5000,
        b'{"format": "scoresde plan 1", "start": 1e400, "end": null}',
    ],
    ids=["empty", "cut", "bytes", "byte order mark", "deep list", "deep object", "long number", "overflow"],
)
def test_a_file_that_is_no_json_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"plan\.json is no plan of scoresde: "):
        Plan.load(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    ABOUT.save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is no plan of scoresde"):
            Plan.load(path)


def test_a_message_is_short_whatever_the_file_holds(tmp_path: Path) -> None:
    long = "d" * 10**5
    for change in (first(name=long), first(row=[[long, 1.0]]), first(level=[long] * 4), first(row=long)):
        content = json.loads(json.dumps(ABOUT.to_dict()))
        change(content)
        with pytest.raises(ValueError) as raised:  # noqa: PT011 - only its length matters
            Plan.from_dict(content)
        assert len(str(raised.value)) < 300


TEXTS = ("nan", "inf", "0x1p1023", "-0x1p0", "0x0p0", "x", "", "z0", "x9", "d1")
VALUES = [*TEXTS, [], None, {}, 3, True, 10**400]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All places in JSON, as the object or list that holds each, and its key."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


def test_a_file_with_any_one_thing_changed_is_refused_or_is_a_plan(tmp_path: Path) -> None:
    """Whatever stands in the place of a name, a number, a row or a level."""
    path, generator, refused = tmp_path / "four.json", random.Random(0), 0
    whole = json.dumps(Plan.make(TABLES["dpmpp-2m"], EDM(), 4).to_dict())
    for _ in range(600):
        content = json.loads(whole)
        holder, key = generator.choice(list(places(content)))
        holder[key] = generator.choice(VALUES)
        path.write_text(json.dumps(content))
        message = f"{path} is no plan of scoresde: "
        try:
            plan = Plan.load(path)
        except ValueError as error:
            message = str(error)
            refused += 1
        else:
            plan.save(tmp_path / "again.json")
            assert Plan.load(tmp_path / "again.json") == plan
            assert validator().is_valid(plan.to_dict())
        assert message.startswith(f"{path} is no plan of scoresde: ")
    assert 480 < refused < 600
