"""Files that are not plans, or damaged ones."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scoresde import (
    Plan,
    RectifiedFlow,
    UniformTime,
    prepare,
)
from scoresde.plans.tape import Line
from scoresde.solvers import EulerMaruyama, Heun, PredictorCorrector
from scoresde.spacings import Grid
from tests.problems import Infinite
from tests.sampling.bad_input import PLAN, VP


def content(change: Callable[[dict[str, Any]], Any], path: Path) -> Path:
    """A plan's file with something changed."""
    PLAN.save(path)
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))
    return path


def first_line(whole: dict[str, Any], **values: Any) -> None:
    whole["lines"][0] |= values


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda whole: whole.update(format="scoresde plan 9"), "scoresde plan 9"),
        (lambda whole: whole.pop("format"), "format"),
        (lambda whole: whole.pop("lines"), "lines"),
        (lambda whole: whole.pop("start"), "start"),
        (lambda whole: whole.update(start=None), "start and end must be levels"),
        (lambda whole: whole.update(end=["0x1p0", "0x1p0"]), ""),
        (lambda whole: whole.update(end=[1.0, 1.0, 1.0, 1.0]), ""),
        (lambda whole: whole.update(end=["0x1p9999"] * 4), ""),
        (lambda whole: whole.update(lines=[]), "does not end with a state"),
        (lambda whole: whole.update(lines="d0"), ""),
        (lambda whole: whole["lines"].pop(), "does not end with a state"),
        (lambda whole: whole["lines"].pop(0), "made of d0, which no line before it makes"),
        (lambda whole: whole["lines"].reverse(), "which no line before it makes"),
        (partial(first_line, row=[]), "d0 is made of nothing"),
        (partial(first_line, row=[["x7", 1.0]]), "d0 is made of x7, which no line before it makes"),
        (partial(first_line, row=[["zz", 1.0]]), "d0 is made of zz, which no line before it makes"),
        (partial(first_line, row=[["x0", "much"]]), "much"),
        (partial(first_line, row=[["x0", math.nan]]), "d0 has the weight nan on x0"),
        (partial(first_line, row=[["x0"]]), ""),
        (partial(first_line, row=None), ""),
        (partial(first_line, measured=[[], 0.1]), "d0 is made of nothing"),
        (partial(first_line, measured=[[["x0", 1.0]], 0.1]), "d0 is no state, with noise added last"),
        *(
            (partial(first_line, name=name), "is no name of a new vector")
            for name in (
                "x1",
                "h0",
                "d",
                "d-1",
                "d01",
                "D0",
                "d\u0663",
                "d" + "9" * 30,
                "d0\n",
                "\x1b[31m",
                "",
            )
        ),
        (partial(first_line, name=3), ""),
        (partial(first_line, name=["d0"]), ""),
        (partial(first_line, level=[]), ""),
        (partial(first_line, level=["nan", "0x1p0", "0x1p0", "0x0p0"]), "a level must be of numbers"),
        (partial(first_line, level=["0x1p0", "-0x1p0", "0x1p0", "0x0p0"]), "a level must be of numbers"),
        (partial(first_line, level=["0x1p0", "0x1p0", "inf", "0x0p0"]), "a level must be of numbers"),
        (partial(first_line, level=["0x1p0", "0x1p0", "0x1p0", "nan"]), "a level must be of numbers"),
        (partial(first_line, row=[["x0", 1.0], ["z" + "9" * 30, 1.0]]), "which no line before it makes"),
        (lambda whole: whole["lines"].insert(1, whole["lines"][0]), "'d0' is no name of a new vector"),
        (lambda whole: whole.update(start=["nan"] * 4), "a level must be of numbers"),
        (lambda whole: whole["lines"][1].update(level=whole["start"]), "'x1' is no name of a new vector"),
    ],
)
def test_a_file_that_is_not_a_plan_is_refused(
    change: Callable[[dict[str, Any]], Any], word: str, tmp_path: Path
) -> None:
    path = content(change, tmp_path / "plan.json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is no plan of scoresde") as raised:
        Plan.load(path)
    assert str(path) in str(raised.value)
    assert word in str(raised.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '"plan"',
        "{",
        "\x00\xff",
        '{"format": "scoresde plan 1"}',
        "[" * 10**5,
        "9" * 5000,
    ],
)
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"plan\.json is no plan of scoresde"):
        Plan.load(path)


def test_a_truncated_plan_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is no plan of scoresde"):
            Plan.load(path)
    with pytest.raises(ValueError, match="is no plan of scoresde"):
        Plan.load(tmp_path)  # a folder


def test_a_plan_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.save(path)
    before = path.read_bytes()
    broken = Plan((Line("d0", (("x0", object()),)),), PLAN.start, PLAN.end)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_plan_is_made_of_a_step_that_is_not_finite() -> None:
    """Whatever the solver: planning ends with a ValueError that names it, and never with a table of NaN."""
    for solver in (Infinite(), PredictorCorrector(predictor=Infinite())):
        with pytest.raises(ValueError, match=r"no finite step on RectifiedFlow\(.*clip"):
            Plan.make(solver, RectifiedFlow(), 5)
    with pytest.raises(ValueError, match="no finite step"):
        Plan.make(EulerMaruyama(math.inf), VP, 5)
    with pytest.raises(ValueError, match="no finite step"):
        Plan.make(PredictorCorrector(snr=1e200), VP, 5)
    assert prepare("heun", RectifiedFlow(), 6).start.alpha == 0
    assert Grid.build(RectifiedFlow(), 3, UniformTime()).levels[0].lam == -math.inf
    assert Plan.make(Heun(), RectifiedFlow(), 3).nfe == 5
