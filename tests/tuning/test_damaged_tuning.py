"""A damaged file of a tuning is refused by its name and its key, or it is what was written."""

import json
import math
import random
import struct
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from scoresde.files import read_tensors, write_tensors
from scoresde.tuning import Report
from scoresde.tuning.levenberg_marquardt import LMState
from scoresde.tuning.saved import TeacherTargets, TuningState
from scoresde.tuning.teacher import TeacherCheck

REPORTS = Path(__file__).parents[2] / "benchmarks" / "results" / "tuned"

STATE = TuningState(
    TeacherCheck(32, 0.001, 0.01),
    ["dpmpp-2m on karras"],
    ["dpmpp-2m on karras", "ddim on karras"],
    [
        {
            "dpmpp-2m on karras": LMState(
                (0.1, -1 / 3), math.inf, (0.0, 0.0), 0.7, ((0.0, 0.0),), history=((1.0, 0.7),)
            )
        }
    ],
    calls=3,
    seconds=0.1 + 0.2,
)


def test_a_state_is_loaded_to_the_same_bits(tmp_path):
    file = tmp_path / "state.json"
    generator = random.Random(0)
    numbers = tuple(struct.unpack("d", generator.randbytes(8))[0] for _ in range(2000))
    theta = tuple(number for number in numbers if math.isfinite(number))
    state = replace(STATE, rounds=[{"one": LMState(theta, 1.0, theta, 1.0)}, {}])
    for one in (STATE, state):
        one.save(file, "key")
        assert TuningState.load(file, "key") == one
    with pytest.raises(ValueError, match=r"state\.json is of another tuning"):
        TuningState.load(file, "other")


# What is put in the place of one value, or of a part of the text.
WRONG = [None, True, "1", -1, 1e300, [], {}, [[]], 10**400, {"a": {"b": 3}}, 0.5, "dpmpp-2m", [1.0]]
TEXTS = [
    "",
    "{",
    "NaN",
    "-Infinity",
    "[" * 5_000,
    '{"a":' * 5_000,
    "\0",
    "9" * 5000,
    "\ufeff{}",
    "null",
    "[]",
    "3",
]


def places(value, at=()):
    """Where values are in JSON."""
    yield at
    for key, part in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(part, (*at, key))


def spoilt(content, generator):
    """A text of JSON with one thing wrong."""
    kind = generator.randrange(5)
    if kind == 0:
        return content[: generator.randrange(len(content))]
    if kind == 1:
        at = generator.randrange(len(content))
        return content[:at] + generator.choice('0123456789eE.,:[]{}x-\0"') + content[at + 1 :]
    if kind == 2:
        return generator.choice(TEXTS)
    value = json.loads(content)
    at = generator.choice([one for one in places(value) if one])
    part = value
    for key in at[:-1]:
        part = part[key]
    if kind == 3:
        part[at[-1]] = generator.choice(WRONG)
    else:
        del part[at[-1]]
    return json.dumps(value).replace("1e+300", generator.choice(["1e300", "1e999", "NaN"]))


def loaded(load):
    """What was loaded, or None, and the message of the ValueError."""
    try:
        return load(), ""
    except ValueError as error:
        return None, str(error)


def test_a_damaged_state_is_refused_by_name_or_is_what_was_written(tmp_path):
    file, generator = tmp_path / "state-2.json", random.Random(1)
    STATE.save(file, "key")
    whole, named, refused = file.read_text(), 0, 0
    for _ in range(500):
        file.write_bytes(spoilt(whole, generator).encode("utf-8", "surrogatepass"))
        state, message = loaded(lambda: TuningState.load(file, "key"))
        assert state == STATE or message.startswith(f"{file} is ")
        assert len(message) < 500 + len(str(file))
        refused += bool(message)
        named += any(key in message for key in asdict(STATE))
    assert refused > 450
    assert named > 100


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"calls": True}, "calls"),
        ({"calls": 10**30}, "calls"),
        ({"calls": "32"}, "calls"),
        ({"difference": -1.0}, "difference"),
        ({"difference": float("nan")}, "difference"),
        ({"difference": None}, "difference"),
        ({"key": "other"}, "another tuning"),
        ({"target": torch.zeros(3, 2)}, "target"),
        ({"target": torch.zeros(4, 2, dtype=torch.long)}, "target"),
    ],
)
def test_a_teacher_that_was_tampered_with_is_refused_by_its_key(wrong, key, tmp_path):
    file = tmp_path / "teacher.safetensors"
    teacher = TeacherTargets(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), 32, 0.001)
    teacher.save(file, "key")
    again = TeacherTargets.load(file, "key", (4, 2))
    assert torch.equal(again.target, teacher.target)
    assert (again.calls, again.difference) == (32, 0.001)
    tensors, header = read_tensors(file)
    write_tensors(
        file,
        {"target": wrong.get("target", tensors["target"])},
        **header | {k: v for k, v in wrong.items() if k != "target"},
    )
    with pytest.raises(ValueError, match=f"teacher.safetensors.*{key}"):
        TeacherTargets.load(file, "key", (4, 2))


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("rmse", {"value": math.nan, "low": 0.0, "high": 1.0}, "NaN"),
        ("nfe", "6", "nfe"),
        ("tuned", 1, "tuned"),
    ],
)
def test_a_report_with_what_is_nearly_right_is_refused(key, value, what, tmp_path):
    file = tmp_path / "report.json"
    content = json.loads((REPORTS / "report-6.json").read_text())
    file.write_text(json.dumps(content | {key: value}))
    with pytest.raises(ValueError, match=f"no report of a tuning: .*{what}"):
        Report.load(file)


def test_the_reports_that_are_kept_load_and_damaged_ones_are_refused_by_name(tmp_path):
    files = sorted(REPORTS.glob("report-*.json"))
    assert len(files) == 5
    for file in files:
        report = Report.load(file)
        assert report.rmse_with_unseen is None
        assert "not excluded" not in str(report)
        assert json.loads(json.dumps(report.to_json())) == json.loads(file.read_text()) | {"unseen": None}
        report.save(tmp_path / file.name)
        assert Report.load(tmp_path / file.name) == report
    file, generator = tmp_path / "report-6.json", random.Random(3)
    whole, named, refused = files[2].read_text(), 0, 0
    keys = json.loads(whole)
    for _ in range(250):
        file.write_bytes(spoilt(whole, generator).encode("utf-8", "surrogatepass"))
        report, message = loaded(lambda: Report.load(file))
        assert report or message.startswith(f"{file} is no report of a tuning: ")
        refused += bool(message)
        named += any(key in message for key in keys)
    assert refused > 175  # the others have another number in the place of one, or other names
    assert named > 50
