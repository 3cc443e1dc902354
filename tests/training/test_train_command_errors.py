"""``scoresde train`` answers a bad configuration with one line, and exit code 2."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from configurations import GOOD, NAMED, bad_files, bad_overrides, bad_syntax

from scoresde.cli.main import main


@pytest.fixture
def path(tmp_path):
    (tmp_path / "some.toml").write_text(GOOD + NAMED)
    return tmp_path / "some.toml"


@pytest.fixture
def command(path, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder: its exit code, its lines on stderr, and what it has written."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*arguments):
        code = main(["train", "--config", str(path), "--quiet", *arguments])
        return code, capsys.readouterr().err.splitlines(), sorted(map(str, Path().rglob("*")))

    return run


def refused(command, *arguments):
    """The one line of a command that fails, after looking at all else."""
    code, lines, written = command(*arguments)
    assert code == 2
    assert written == []
    (line,) = lines
    return line


@bad_overrides
def test_the_command_answers_a_bad_value_with_one_line(command, override, named):
    assert refused(command, override).startswith("scoresde: ")


@bad_files
def test_the_command_answers_a_bad_file_with_one_line(command, path, content, named):
    path.write_text(content)
    assert str(path) in refused(command)


@bad_syntax
def test_the_command_answers_a_bad_override_with_one_line(command, override):
    assert "an override is written section.key=value" in refused(command, override)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--save-every", "0"], "--save-every must be at least 1, got 0"),
        (["--save-every", "-5"], "--save-every must be at least 1, got -5"),
        (["--device", "tpu9"], "--device must be available here, such as cpu, got 'tpu9'"),
        (["--device", "meta"], "--device must be available here, such as cpu, got 'meta'"),
        (["--device", "cuda:99"], "--device must be available here, such as cpu, got 'cuda:99'"),
        (["data.source=none.npz"], "data source must be"),
        (["data.images=x"], "digits has no named arrays"),
        (["network.in_channels=3"], "x must be images (B, 3, H, W)"),
        (["network.patch=3"], "H and W divisible by 3, got shape (1, 1, 8, 8)"),
        (["network.classes=9"], "labels must be in [0, 9), got 0 to 9"),
        (["network.classes=0"], "labels were given, but the network has no classes"),
        (["time_sampling.mean=50.0"], "has less than 1e-9 of its mass in"),
        (["sde.name=rectified-flow", "time_sampling.name=importance"], "importance sampling needs alpha > 0"),
    ],
)
def test_the_command_answers_what_does_not_fit_with_one_line(command, arguments, named):
    assert named in refused(command, *arguments)


def test_the_command_answers_a_network_for_vectors_with_one_line(command, path):
    path.write_text(GOOD.replace('"unet"\nchannels = [8]\nblocks = 1', '"mlp"'))
    assert "x must be vectors (B, 2), got shape (1, 1, 8, 8)" in refused(command)


def test_the_command_answers_a_folder_that_it_cannot_write_with_one_line(command, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert str(tmp_path / "file") in refused(command, "--out", str(out))
    assert (tmp_path / "file").read_text() == ""


def test_the_command_writes_its_run_under_the_name_of_the_file(command):
    code, lines, written = command()
    assert (code, lines) == (0, [])
    files = ["configuration.json", "loss.jsonl", "model.safetensors", "training.safetensors"]
    assert written == ["runs", "runs/some", *(f"runs/some/{name}" for name in files)]
    assert [json.loads(line)["step"] for line in Path("runs/some/loss.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]


def test_a_finished_run_that_goes_on_is_left_as_it_is(command):
    command()
    before = {path: path.read_bytes() for path in Path("runs/some").iterdir()}
    assert command("--resume")[0] == 0
    assert {path: path.read_bytes() for path in Path("runs/some").iterdir()} == before


def test_the_exit_code_of_the_program_is_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scoresde", "train", "--config", str(tmp_path / "none.toml")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("scoresde.cli", run_name="__main__")
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith(f"scoresde: configuration {tmp_path / 'none.toml'}: ")
    assert out == ""
    assert list(tmp_path.iterdir()) == []
