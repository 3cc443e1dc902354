"""A tuning comes to the same bits whenever it is killed."""

import random
import sys

import pytest
import torch
from small_tuning import Bar, same

from scoresde import EDM, ExactDenoiser, Mixture, tune
from scoresde.files import read_tensors, write_tensors
from scoresde.tuning import Settings, saved

tune_module = sys.modules["scoresde.tuning.tune"]
SDE = EDM(t_min=0.02, t_max=20.0)
MEANS = torch.tensor([[1.0, 0.2], [-0.8, 0.6], [0.1, -1.0]], dtype=torch.float64)
EXACT = ExactDenoiser(
    Mixture(MEANS, torch.tensor([0.1, 0.2, 0.3]).double(), torch.tensor([0.5, 0.3, 0.2]).double()), SDE
)
FEW = {"samples": 32, "held_out": 32, "iterations": 1, "bands": 2, "starts": 2, "spacings": ("karras",)}


def tuned(state=None, nfe=2, denoiser=EXACT, **rest):
    settings = Settings(**FEW, solvers=("ddim", "dpmpp-2m"))
    return tune(denoiser, nfe, (2,), settings=settings, state=state, **rest)


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
            patch.setattr(saved, name, killed(getattr(saved, name)))
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
    """A denoiser whose fingerprint is the number of its calls."""

    def __init__(self):
        self.sde, self.calls, self.asked = SDE, 0, []

    def __call__(self, x, level, cond=None):
        self.calls += 1
        return EXACT(x, level, cond)

    def __fingerprint__(self):
        self.asked.append(self.calls)
        return self.calls


def test_the_fingerprint_is_taken_before_the_first_call(whole, tmp_path):
    """So that counters and caches, which calls change, are no part of it."""
    abouts = []
    for _ in range(2):  # the second resumes, as a new process would, where the count begins anew
        denoiser = Counting()
        plan, report = tuned(tmp_path, denoiser=denoiser)
        assert plan == whole[0]
        assert plan.about | report.network == plan.about
        assert set(denoiser.asked) == {0}
        assert denoiser.calls > 0
        abouts.append(plan.about)
    assert abouts[0] == abouts[1]


def test_equivalent_calls_are_measured_on_the_network_itself(whole):
    """A draft that is far off decides which stock solver is the best, and no figure."""

    def draft(x, level, cond=None):
        return EXACT(x, level) + 0.05 * torch.sin(40 * x)

    draft.sde = SDE
    _, report = tuned(draft=draft)
    _, expected = whole
    assert report.stock == expected.stock
    assert report.equivalent_calls == expected.equivalent_calls
    assert report.stock_rmse == expected.stock_rmse
    assert report.teacher == expected.teacher  # its share is of the stock solver's error


def test_the_bar_has_a_total_that_holds_and_phases_by_name(monkeypatch):
    bar = Bar()
    monkeypatch.setattr(tune_module, "tqdm", lambda **given: bar)
    _, report = tuned(nfe=3, progress=True)
    assert all(total is not None and n <= total for n, total in bar.seen)
    assert bar.n == bar.total == report.calls
    phases = [phase for phase in bar.phases if ", " not in phase]
    assert phases == ["teacher", "screening", "fit", "held-out samples"]
    first = bar.seen[2][1]  # after the two calls that show whether the network is the same twice
    assert 0.5 * bar.n < first < 2 * bar.n


def test_the_line_of_the_bar(capsys):
    tuned(progress=True)
    shown = capsys.readouterr().err
    assert ": :" not in shown
    assert "held-out samples: 100%" in shown


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
