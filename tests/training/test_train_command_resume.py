"""``scoresde train --resume`` and ``--init``: a killed run ends as one that was not, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_run import SHAPE, configured, trained
from torch import nn

from scoresde.cli.main import main
from scoresde.files import read_tensors
from scoresde.networks import NETWORKS
from scoresde.training.checkpoint import MODEL, TRAINING, save_training

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    configuration, folder = configured(), tmp_path_factory.mktemp("saved")
    save_training(folder, configuration, trained(configuration, 3)[0], SHAPE)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The files of a run that was saved after 3 steps, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "folder"))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command(out, *more):
    """Some 30 steps of a small network, long enough to be killed in between."""
    config = str(ROOT / "configs" / "digits.toml")
    small = [
        "optimization.steps=30",
        "optimization.batch_size=32",
        "network.channels=[16,32]",
        "network.embedding=fourier",
        "network.dropout=0.1",
        "levels.budgets=[]",
    ]
    return ["train", "--config", config, "--out", str(out), "--quiet", "--save-every", "10", *small, *more]


@pytest.mark.slow
def test_a_killed_run_that_goes_on_ends_with_the_bits_of_one_that_was_not_killed(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert main(command(straight)) == 0

    # On as many threads as here: sums in another order have other bits.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "scoresde.cli", *command(killed)], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 120
    while not (killed / TRAINING).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, header = read_tensors(killed / TRAINING)
    assert header["step"] in (10, 20)

    assert main(command(killed, "--resume")) == 0
    assert (killed / "loss.jsonl").read_text() == (straight / "loss.jsonl").read_text()
    assert len((straight / "loss.jsonl").read_text().splitlines()) == 30
    for name in (MODEL, TRAINING):
        expected, header = read_tensors(straight / name)
        tensors, again = read_tensors(killed / name)
        assert again == header
        assert header["step"] == 30
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_losses_after_the_last_checkpoint_are_forgotten_when_a_run_goes_on(tmp_path, monkeypatch, capsys):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    few = ["optimization.steps=4", "optimization.batch_size=4", "--save-every", "2"]
    assert main(command(straight, *few)) == 0
    calls = []

    def fail_later(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:  # when the losses of step 4 are written already
            raise OSError(28, "No space left on device")
        save_training(*arguments, **options)

    monkeypatch.setattr("scoresde.cli.train.save_training", fail_later)
    assert main(command(stopped, *few)) == 2
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    assert read_tensors(stopped / TRAINING)[1]["step"] == 2
    assert len((stopped / "loss.jsonl").read_text().splitlines()) == 4
    assert main(command(stopped, *few, "--resume")) == 0
    assert (stopped / "loss.jsonl").read_text() == (straight / "loss.jsonl").read_text()


class Broken(nn.Module):
    """A network whose output is NaN from its fifth training step on, and in its third."""

    def __init__(self):
        super().__init__()
        self.classes, self.calls, self.weight = 10, 0, nn.Parameter(torch.ones(1))

    def forward(self, x, t, cond=None):
        self.calls += self.training
        return self.weight * x * (float("nan") if self.calls in (3, 6, 7, 8, 9) else 1.0)


def test_a_run_that_is_not_finite_stops_with_a_finite_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(NETWORKS, "broken", Broken)
    config = tmp_path / "broken.toml"
    config.write_text(
        'data.source = "digits"\nprediction.name = "v"\nsde.name = "vp"\ntime_sampling.name = "uniform"\n'
        'network.name = "broken"\noptimization = {steps = 20, batch_size = 8, max_skipped = 3}\n'
        "levels.budgets = []\n"
    )
    out = tmp_path / "out"
    assert main(["train", "--config", str(config), "--out", str(out), "--quiet", "--save-every", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not finite in 3 steps in a row, the last one step 8" in line
    for name in (MODEL, TRAINING):
        tensors, header = read_tensors(out / name)
        assert header["step"] == 6
        assert header["skipped"] == 2
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (out / "loss.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] is None for line in lines] == [False, False, True, False, False, True]


def test_a_run_may_begin_with_the_weights_of_another(tmp_path, folder):
    """One step of a learning rate near 0 leaves the weights that it began with."""
    same = ["network.channels=[8]", "network.patch=2", "optimization.steps=1", "optimization.lr=1e-20"]
    assert main(command(tmp_path / "out", *same, "--init", str(folder))) == 0
    begun, _ = read_tensors(tmp_path / "out" / TRAINING)
    for name, value in read_tensors(folder / MODEL)[0].items():
        assert torch.equal(begun[f"net.{name}"], value), name


@pytest.mark.parametrize(
    ("init", "options", "named"),
    [
        (lambda folder: folder, ["network.channels=[16]"], "is another network than the configuration's"),
        (lambda folder: folder / "none", [], "none does not exist"),
        (lambda folder: Path(__file__), [], "is not a whole safetensors file"),
    ],
    ids=["another network", "missing", "no checkpoint"],
)
def test_weights_that_cannot_be_begun_with_are_answered_with_one_line(
    tmp_path, folder, capsys, init, options, named
):
    assert main(command(tmp_path / "out", *options, "--init", str(init(folder)))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_trained_over(folder, capsys):
    before = files_of(folder)
    assert main(command(folder)) == 2
    assert "holds a training run; go on with --resume, or name another --out" in capsys.readouterr().err
    assert main(command(folder, "--resume")) == 2
    assert (
        "was written with another configuration: network.channels was [8], is [16, 32]; "
        in capsys.readouterr().err
    )
    assert files_of(folder) == before
