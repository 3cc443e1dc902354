"""What a tuning keeps: the same bits whenever it is killed, and no damaged file passes for a whole one."""

import json
import math
import random
import struct
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from scoresde import EDM, ExactDenoiser, Mixture, tune
from scoresde.files import read_tensors, write_tensors
from scoresde.tuning import Report, Settings, judge, kept
from scoresde.tuning.descent import Descent
from scoresde.tuning.gate import bootstrap, root
from scoresde.tuning.heats import fitted
from scoresde.tuning.kept import State, Teacher
from scoresde.tuning.teacher import Certificate

tune_module = sys.modules["scoresde.tuning.tune"]
SDE = EDM(t_min=0.02, t_max=20.0)
MEANS = torch.tensor([[1.0, 0.2], [-0.8, 0.6], [0.1, -1.0]], dtype=torch.float64)
EXACT = ExactDenoiser(
    Mixture(MEANS, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double()), SDE
)
FEW = {"samples": 32, "held_out": 32, "iterations": 1, "bands": 2, "starts": 2, "spacings": ("karras",)}
SHIPPED = Path(__file__).parents[2]


def tuned(state=None, nfe=2, denoiser=EXACT, **rest):
    settings = Settings(**FEW, solvers=("ddim", "dpmpp-2m"))
    return tune(denoiser, nfe, (2,), settings=settings, state=state, **rest)


def same(made, whole):
    """The same plan and the same figures, but for what it took."""
    (plan, report), (other, expected) = made, whole
    assert plan == other
    assert plan.about == other.about
    assert replace(report, calls=0, seconds=0.0) == replace(expected, calls=0, seconds=0.0)


@pytest.fixture(scope="module")
def whole():
    return tuned()


class Killed(BaseException):
    """No exception that anything catches."""


def tuned_until_killed(monkeypatch, folder, writes):
    """A tuning that is killed before its write of this number, or not; and what it wrote until then."""
    done = []
    with monkeypatch.context() as patch:

        def killed(write):
            def writing(path, *given, **header):
                if len(done) == writes:
                    raise Killed
                write(path, *given, **header)
                done.append(path.name)

            return writing

        for name in ("write_atomically", "write_tensors"):
            patch.setattr(kept, name, killed(getattr(kept, name)))
        try:
            return tuned(folder), done
        except Killed:
            return None, done


def test_a_tuning_killed_between_any_two_writes_comes_to_the_same_bits(whole, tmp_path, monkeypatch):
    for writes in range(1, 20):
        folder = tmp_path / str(writes)
        made, done = tuned_until_killed(monkeypatch, folder, writes)
        if made is not None:
            break
        same(tuned(folder), whole)
    same(made, whole)
    assert writes > 5
    assert done[:2] == ["state-2.json", "teacher.safetensors"]  # killed between the two, both are made again
    assert set(done[2:]) == {"state-2.json"}


def test_a_tuning_killed_after_each_of_its_writes_comes_to_the_same_bits(whole, tmp_path, monkeypatch):
    attempts = 1
    while (made := tuned_until_killed(monkeypatch, tmp_path, 2 if attempts == 1 else 1)[0]) is None:
        attempts += 1
        assert attempts < 20
    same(made, whole)
    assert attempts > 4


class Counting:
    """A denoiser that counts its calls, where a fingerprint may see it."""

    def __init__(self, inner=EXACT):
        self.inner, self.sde, self.calls = inner, inner.sde, 0

    def __call__(self, x, level, cond=None):
        self.calls += 1
        return self.inner(x, level, cond)


def test_what_a_denoiser_counts_while_it_is_tuned_is_no_part_of_what_was_tuned(whole, tmp_path, monkeypatch):
    """Its fingerprint is taken once, when the tuning starts."""
    taken = []

    def fingerprint(of):
        taken.append(of.calls)
        return {"weights": str(of.calls), "sde": repr(of.sde), "dtype": "torch.float32"}

    monkeypatch.setattr("scoresde.tuning.task.fingerprint", fingerprint)
    for _ in range(2):  # the second goes on, as a new process would, where the count begins anew
        plan, report = tuned(tmp_path, denoiser=Counting())
        assert plan == whole[0]
        assert plan.about["weights"] == report.network["weights"] == "0"
    assert set(taken) == {0}


def test_stock_calls_as_good_are_measured_on_the_network_itself(whole):
    """A draft that is far off decides which stock solver is the best, and no figure."""

    def draft(x, level, cond=None):
        return EXACT(x, level) + 0.05 * torch.sin(40 * x)

    draft.sde = SDE
    _, report = tuned(draft=draft)
    _, expected = whole
    assert report.stock == expected.stock
    assert (report.equivalent, report.searched) == (expected.equivalent, expected.searched)
    assert report.stock_rmse == expected.stock_rmse
    assert report.teacher == expected.teacher  # its share is of the stock solver's error


class Shown:
    """What a bar showed."""

    def __init__(self, **given):
        self.n, self.total, self.seen, self.phases = 0, None, [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, count):
        self.n += count
        self.seen.append((self.n, self.total))

    def set_description_str(self, text, refresh=True):
        self.phases.append(text)

    def refresh(self):
        pass


def test_the_bar_has_a_total_that_holds_and_phases_by_name(monkeypatch):
    bar = Shown()
    monkeypatch.setattr(tune_module, "tqdm", lambda **given: bar)
    _, report = tuned(nfe=3, progress=True)
    assert all(total is not None and n <= total for n, total in bar.seen)
    assert bar.n == bar.total == report.calls
    phases = [phase for phase in bar.phases if ", " not in phase]
    assert phases == ["teacher", "race", "fit", "held-out noises"]
    first = bar.seen[2][1]  # after the two calls that show whether the network is the same twice
    assert 0.5 * bar.n < first < 2 * bar.n


def test_the_line_of_the_bar(capsys):
    tuned(progress=True)
    shown = capsys.readouterr().err
    assert ": :" not in shown
    assert "held-out noises: 100%" in shown


STATE = State(
    Certificate(32, 0.001, 0.01),
    ["dpmpp-2m on karras"],
    ["dpmpp-2m on karras", "ddim on karras"],
    [
        {
            "dpmpp-2m on karras": Descent(
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
    state = replace(STATE, heats=[{"one": Descent(theta, 1.0, theta, 1.0)}, {}])
    for one in (STATE, state):
        one.save(file, "key")
        assert State.load(file, "key") == one
    with pytest.raises(ValueError, match=r"state\.json is of another tuning"):
        State.load(file, "other")


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
        state, message = loaded(lambda: State.load(file, "key"))
        assert state == STATE or message.startswith(f"{file} is ")
        assert len(message) < 500 + len(str(file))
        refused += bool(message)
        named += any(key in message for key in asdict(STATE))
    assert refused > 450
    assert named > 100


def test_a_tuning_refuses_damaged_files_of_its_own(whole, tmp_path):
    """The state in use, and the teacher: one wrong byte anywhere, a part of it, or another thing."""
    made = tuned(tmp_path)
    same(made, whole)
    teacher, state = tmp_path / "teacher.safetensors", tmp_path / "state-2.json"
    for file in (teacher, state):
        content, generator = file.read_bytes(), random.Random(2)
        for _ in range(8):
            at = generator.randrange(len(content))
            other = content[:at] + bytes([content[at] ^ (1 + generator.randrange(255))]) + content[at + 1 :]
            file.write_bytes(other)
            with pytest.raises(ValueError, match=file.name):
                tuned(tmp_path)
        for other in (content[: len(content) // 2], b"", b"\x80\x04."):
            file.write_bytes(other)
            with pytest.raises(ValueError, match=f"{file.name} is damaged.*remove it"):
                tuned(tmp_path)
        file.write_bytes(content)
    same(tuned(tmp_path), whole)
    state.unlink()
    teacher.unlink()
    same(tuned(tmp_path), whole)


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
    teacher = Teacher(torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), 32, 0.001)
    teacher.save(file, "key")
    again = Teacher.load(file, "key", (4, 2))
    assert torch.equal(again.target, teacher.target)
    assert (again.calls, again.difference) == (32, 0.001)
    tensors, header = read_tensors(file)
    write_tensors(
        file,
        {"target": wrong.get("target", tensors["target"])},
        **header | {k: v for k, v in wrong.items() if k != "target"},
    )
    with pytest.raises(ValueError, match=f"teacher.safetensors.*{key}"):
        Teacher.load(file, "key", (4, 2))


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
    content = json.loads((SHIPPED / "benchmarks" / "results" / "tuned" / "report-6.json").read_text())
    file.write_text(json.dumps(content | {key: value}))
    with pytest.raises(ValueError, match=f"no report of a tuning: .*{what}"):
        Report.load(file)


def test_a_state_whose_teacher_was_made_better_begins_anew_and_as_if_that_was_there_at_first(tmp_path):
    """A budget of more calls may have asked for it."""
    made = tuned(tmp_path)
    state, file = tmp_path / "state-2.json", tmp_path / "teacher.safetensors"
    tensors, header = read_tensors(file)
    calls = header.pop("calls")
    write_tensors(file, {"target": tensors["target"] + 1e-3}, calls=2 * calls, **header)
    again = tuned(tmp_path)
    assert again[1].teacher.calls == 2 * calls
    assert again[0] != made[0]
    state.unlink()
    same(tuned(tmp_path), again)


@pytest.mark.parametrize("wins", [True, False])
def test_what_the_report_says_is_of_the_plan_that_is_returned(wins, whole, monkeypatch):
    """The bound on W2, one-sided, so that of 90 % between two ends 95 % are below one; and unseen misses."""
    made, measured = [], judge.measured
    monkeypatch.setattr(judge, "measured", lambda *given: made.append(measured(*given)) or made[-1])
    if not wins:
        monkeypatch.setattr(tune_module, "fitted", spoilt_fit)
    _, report = tuned()
    assert report.tuned is wins
    chosen = made[0 if wins else 2].squares
    high = bootstrap(root, chosen, level=0.9).high
    assert report.coupling == pytest.approx((math.sqrt(2 * chosen.mean()), math.sqrt(2) * high))
    variance = (made[1].energies.sum(1) / 2).mean()
    assert report.unseen == pytest.approx(math.sqrt(chosen.mean() + 3 / 32 * 2 * variance), rel=1e-5)


def spoilt_fit(*given):
    """A fit that ends far off."""
    start, best = fitted(*given)
    return start, replace(best, best=tuple(0.3 for _ in best.best))


@pytest.mark.parametrize("which", ["ours", "the best", "all"])
def test_ends_that_are_not_finite_have_lost(which, whole, monkeypatch):
    """A tuned table's, to the best stock solver; that one's, to the next; all, and nothing can be said."""
    made, measured = [], judge.measured

    def spoilt(*given):
        made.append(measured(*given))
        if len(made) in {"ours": (1,), "the best": (3,), "all": range(3, 99)}[which]:
            made[-1].squares[3] = math.inf
        return made[-1]

    monkeypatch.setattr(judge, "measured", spoilt)
    if which == "all":
        with pytest.raises(FloatingPointError, match="no stock solver's ends are all finite on 32"):
            tuned()
        return
    plan, report = tuned()
    assert report.tuned is plan.about["tuned"] is (which == "the best")
    assert (report.stock == whole[1].stock) is (which == "ours")
    assert report.gain.value == 0 if which == "ours" else report.gain.value < 0
    assert math.isfinite(report.rmse.high)
    assert math.isfinite(report.stock_rmse.high)


def test_the_reports_that_are_kept_load_and_damaged_ones_are_refused_by_name(tmp_path):
    files = sorted((SHIPPED / "benchmarks" / "results" / "tuned").glob("report-*.json"))
    assert len(files) == 5
    for file in files:
        report = Report.load(file)
        assert report.unseen is None
        assert "not excluded" not in str(report)
        assert asdict(report) | {"unseen": None} == asdict(report)
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
