"""Ctrl-C: one line and 130, wherever it comes; and a training keeps its last whole step."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scoresde.cli.main import main
from scoresde.command import guarded, interrupt_noted
from scoresde.denoisers.network import Denoiser
from scoresde.files import read_tensors
from scoresde.training.checkpoint import MODEL, TRAINING

ROOT = Path(__file__).parents[2]
FEW = ["optimization.batch_size=4", "network.channels=[8]", "network.patch=2", "levels.budgets=[]"]


def command(out, steps, *more):
    few = [*FEW, f"optimization.steps={steps}"]
    return ["train", "--config", "digits", "--out", str(out), "--quiet", "--save-every", "4", *few, *more]


def interrupted(capsys):
    """The one line of a command that was interrupted."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("scoresde: interrupted")
    return line


PROGRAMS = ["certify", "compare", "latency", "levels", "overhead", "plot", "run", "train_features", "tuned"]


@pytest.mark.parametrize("program", ["scoresde", *(f"{name}.py" for name in PROGRAMS)])
def test_ctrl_c_while_torch_is_imported_is_one_line_even_if_libraries_catch_it(program, tmp_path):
    caught = (
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    for library in ("torch", "numpy"):
        (tmp_path / f"{library}.py").write_text(caught)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    file = ["-m", "scoresde.cli", "sample"] if program == "scoresde" else [ROOT / "benchmarks" / program]
    done = subprocess.run(
        [sys.executable, *file],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{program}: interrupted\n")


def test_a_process_that_is_not_the_command_is_left_as_it_is():
    assert sys.excepthook.__module__ != "scoresde.command"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["train", "--config", "digits"], "scoresde.cli.train.load_data"),
        (["train", "--config", "digits"], "scoresde.cli.train.read_configuration"),
        (["sample", "--quiet"], "scoresde.cli.shared.load_denoiser"),
        (["sample", "--quiet"], "scoresde.cli.sample.sample"),
        (["tune", "--quiet"], "scoresde.cli.shared.load_denoiser"),
        (["tune", "--quiet"], "scoresde.cli.tune.tune"),
        (["measure", "--quiet"], "scoresde.cli.shared.load_denoiser"),
        (["measure", "--quiet"], "scoresde.cli.measure.measured"),
        (["sample"], "argparse.ArgumentParser.parse_known_args"),
    ],
)
def test_ctrl_c_anywhere_is_one_line_and_writes_nothing(arguments, where, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, interrupt)
    assert main(arguments) == 130
    interrupted(capsys)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_draw_that_is_interrupted_says_that_nothing_was_written(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("scoresde.cli.sample.sample", interrupt)
    assert main(["sample", "--n", "2", "--quiet", "--out", str(tmp_path / "out")]) == 130
    assert "no sample was written" in interrupted(capsys)
    assert not (tmp_path / "out").exists()


def test_a_tuning_that_is_interrupted_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*_, state, **__):
        state.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("scoresde.cli.tune.tune", interrupt)
    assert main(["tune", "--quiet", "--nfe", "4", "--out", str(tmp_path)]) == 130
    assert interrupted(capsys).endswith(f"the same command continues from {tmp_path / 'state'}")


# ------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run of 10 steps that was never interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    assert main(command(folder, 10)) == 0
    return folder


def same_as(straight, folder):
    assert (folder / "loss.jsonl").read_text() == (straight / "loss.jsonl").read_text()
    for name in (MODEL, TRAINING):
        expected, header = read_tensors(straight / name)
        tensors, again = read_tensors(folder / name)
        assert again == header
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def at_step(monkeypatch, owner, name, step, do):
    """Have something done at the call of a method that belongs to a training step."""
    method, calls = getattr(owner, name), []

    def called(*arguments, **options):
        if torch.is_grad_enabled():  # not the first try, before training
            calls.append(name)
        if len(calls) == step:
            do()
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, called)


def test_a_signal_lets_the_step_end_and_saves_it(straight, tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, Denoiser, "loss", 6, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main(command(tmp_path, 10)) == 130
    monkeypatch.undo()
    assert interrupted(capsys) == f"scoresde: interrupted; {tmp_path} holds step 6: go on with --resume"
    assert read_tensors(tmp_path / TRAINING)[1]["step"] == 6
    assert len((tmp_path / "loss.jsonl").read_text().splitlines()) == 6
    assert main(command(tmp_path, 10, "--resume")) == 0
    same_as(straight, tmp_path)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("owner", "name", "kept"),
    [(Denoiser, "loss", 6), (torch.optim.swa_utils.AveragedModel, "update_parameters", 4)],
    ids=["before anything changed", "within a change"],
)
def test_only_a_whole_step_is_saved(straight, tmp_path, monkeypatch, capsys, owner, name, kept):
    """An interrupt in step 7: the state of step 6 is saved, unless it is half that of 7; then 4 is kept."""
    at_step(monkeypatch, owner, name, 7, interrupt)
    assert main(command(tmp_path, 10)) == 130
    monkeypatch.undo()
    assert f"holds step {kept}: " in interrupted(capsys)
    assert read_tensors(tmp_path / TRAINING)[1]["step"] == kept
    assert main(command(tmp_path, 10, "--resume")) == 0
    same_as(straight, tmp_path)


def test_an_interrupt_in_the_first_step_leaves_nothing_to_go_on_from(tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, Denoiser, "loss", 1, interrupt)
    assert main(command(tmp_path, 10)) == 130
    assert interrupted(capsys).endswith("before the first step was saved")
    assert not (tmp_path / TRAINING).exists()


def read_until(stream, pattern):
    """The text of a stream up to a pattern; AssertionError if it ends without it."""
    text = ""
    while not re.search(pattern, text):
        more = os.read(stream.fileno(), 4096).decode()
        assert more, f"{pattern} did not come: {text}"
        text += more
    return text


@pytest.mark.slow
def test_a_process_that_gets_a_signal_saves_and_ends_in_one_line(tmp_path):
    arguments = command(tmp_path, 1_000_000)
    arguments[arguments.index("4")] = "1000000"  # no other checkpoint than the last
    arguments.remove("--quiet")
    with subprocess.Popen(
        [sys.executable, "-m", "scoresde.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
    ) as process:
        read_until(process.stderr, r"training: .* [1-9]\d*/1000000 ")  # the bar has counted a step
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read().decode()
    step = read_tensors(tmp_path / TRAINING)[1]["step"]
    assert step >= 1
    assert process.returncode == 130
    last = errors.splitlines()[-1]  # the others are states of the bar
    assert last == f"scoresde: interrupted; {tmp_path} holds step {step}: go on with --resume"
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, step + 1))


# ------------------------------------------------------------------------------------- how it is done


def test_a_second_signal_is_raised_at_once():
    usual = signal.getsignal(signal.SIGINT)
    with interrupt_noted() as noted:
        assert not noted()
        os.kill(os.getpid(), signal.SIGINT)
        assert noted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt_noted() as noted:
            os.kill(os.getpid(), signal.SIGINT)
            assert not noted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_was_said_of_an_interrupt_is_shown(capsys):
    def stop():
        raise KeyboardInterrupt("interrupted; go on with --resume")

    assert guarded("it", stop) == 130
    assert capsys.readouterr().err == "it: interrupted; go on with --resume\n"
