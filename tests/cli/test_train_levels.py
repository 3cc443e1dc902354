"""``scoresde train`` measures levels after its last step, and writes them beside the network."""

import os
import signal
import sys

import numpy as np
import pytest
import torch
from small_commands import VECTORS, line_of, refused
from small_levels import made_up, take_by_hand

from scoresde.cli.main import main
from scoresde.denoisers.network import Denoiser
from scoresde.files import read_tensors
from scoresde.plans.fingerprint import fingerprint
from scoresde.pretrained import Pretrained
from scoresde.spacings.measured import Measured
from scoresde.training.checkpoint import MODEL, TRAINING, load_denoiser
from scoresde.training.labels import in_proportion
from scoresde.training.levels import load_levels
from scoresde.tuning import measured

LABELS = [0] * 9 + [1] * 3  # of the data


@pytest.fixture
def train(tmp_path):
    """Train for some steps in tmp_path / "run"."""
    x = np.random.default_rng(0).normal(size=(len(LABELS), 2)).astype(np.float32)
    np.savez(tmp_path / "vectors.npz", x=x, y=LABELS)
    text = VECTORS.replace("FILE", str(tmp_path / "vectors.npz")).replace("budgets = []", "budgets = [4, 3]")
    (tmp_path / "small.toml").write_text(text)
    file, out = str(tmp_path / "small.toml"), str(tmp_path / "run")
    return lambda *more: main(["train", "--config", file, "--quiet", "--out", out, *more])


@pytest.fixture
def asked(monkeypatch):
    """The arguments of each measurement, which returns levels chosen by hand."""
    return take_by_hand(monkeypatch, "train")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------- what is measured


@pytest.mark.slow
def test_the_levels_are_those_of_the_library_for_the_saved_network(train, tmp_path):
    assert train("levels.budgets=[2]", "optimization.batch_size=32", "seed=7") == 0
    trained = load_denoiser(tmp_path / "run")
    expected = measured(
        trained.denoiser,
        (2,),
        budgets=[2],
        cond=in_proportion(torch.tensor(LABELS), 1000),
        seed=7,
        batch_size=32,
    )
    levels = load_levels(tmp_path / "run")
    assert levels == expected
    assert levels.about == {**expected.about, "labels": "as in the data"}
    again = tmp_path / "run" / "levels.json"
    before = again.read_bytes()
    again.unlink()
    assert train("levels.budgets=[2]", "optimization.batch_size=32", "seed=7", "--resume") == 0
    assert again.read_bytes() == before


def test_the_averaged_network_is_measured_with_the_labels_of_the_data(train, asked, tmp_path, capsys):
    assert train("seed=3", "optimization.steps=5", "optimization.ema=0.5") == 0
    (arguments,) = asked
    trained = load_denoiser(tmp_path / "run")
    assert fingerprint(arguments["denoiser"]) == fingerprint(trained.denoiser)
    assert not any(part.training or part.weight.requires_grad for part in _linear(arguments["denoiser"]))
    assert (tuple(arguments["shape"]), arguments["budgets"], arguments["seed"]) == ((2,), (3, 4), 3)
    cond = arguments["cond"]
    for first in range(0, len(cond) - 32, 17):  # in any 32 noises as in all
        assert abs(int(cond[first : first + 32].sum()) - 8) <= 2
    assert abs(int(cond.sum()) - 250) <= 2
    levels = load_levels(tmp_path / "run")
    assert [choice.calls for choice in levels.choices] == [3, 4]
    assert levels.about["labels"] == "as in the data"
    assert {"levels.json", "levels.png"} <= files(tmp_path / "run").keys()
    said = capsys.readouterr().out.splitlines()
    assert said[1] == str(tmp_path / "run/levels.json")
    assert said[-1].endswith(f"next: scoresde sample --checkpoint {tmp_path / 'run'}")
    assert Pretrained(tmp_path / "run").levels == levels


def _linear(denoiser):
    return [part for part in denoiser.modules() if isinstance(part, torch.nn.Linear)]


def test_a_network_without_classes_has_no_conditions(train, asked):
    assert train("network.classes=0", "data.labels=''") == 0
    assert asked[0]["cond"] is None


def test_no_budgets_measure_nothing(train, asked, tmp_path):
    assert train("levels.budgets=[]") == 0
    assert asked == []
    assert load_levels(tmp_path / "run") is None


# ------------------------------------------------------------------------------------- going on


def test_levels_are_measured_once_and_again_after_more_steps(train, asked, tmp_path):
    assert train() == 0
    before = files(tmp_path / "run")
    assert train("--resume") == 0
    assert files(tmp_path / "run") == before
    assert len(asked) == 1
    (tmp_path / "run" / "levels.json").unlink()
    assert train("--resume", "levels.budgets=[4, 5]") == 0  # other budgets are no other training
    assert [choice.calls for choice in load_levels(tmp_path / "run").choices] == [4, 5]
    assert train("--resume", "optimization.steps=2") == 0
    assert len(asked) == 3
    trained = load_denoiser(tmp_path / "run")
    assert load_levels(tmp_path / "run").about["weights"] == fingerprint(trained.denoiser)["weights"]
    assert len({fingerprint(one["denoiser"])["weights"] for one in asked}) == 2


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["measured", "write"])
def test_an_interrupted_measurement_leaves_a_trained_network(
    where, train, asked, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        patch.setattr(f"scoresde.cli.train.{where}", interrupt)
        assert train() == 130
    run = tmp_path / "run"
    assert line_of(capsys) == (
        f"scoresde: interrupted; {run} holds the trained network, without measured levels: go on with "
        f"--resume, or measure them by scoresde measure --checkpoint {run}"
    )
    assert files(run).keys() == {"configuration.json", "loss.jsonl", MODEL, TRAINING}
    assert (
        main(["sample", "--checkpoint", str(run), "--quiet", "--n", "1", "--out", str(tmp_path / "s")]) == 0
    )
    monkeypatch.setattr("scoresde.cli.measure.measured", lambda denoiser, *_, **__: made_up(denoiser))
    assert main(["measure", "--checkpoint", str(run), "--quiet"]) == 0
    (run / "levels.json").unlink()
    assert train("--resume") == 0
    assert load_levels(run) is not None


def test_a_signal_in_the_last_step_ends_before_the_measurement(train, asked, tmp_path, monkeypatch, capsys):
    loss = Denoiser.loss

    def signalled(*arguments):
        if torch.is_grad_enabled():  # not the first try, before training
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Denoiser, "loss", signalled)
        assert train() == 130
    assert line_of(capsys) == f"scoresde: interrupted; {tmp_path / 'run'} holds step 1: go on with --resume"
    assert read_tensors(tmp_path / "run" / TRAINING)[1]["step"] == 1
    assert asked == []
    assert train("--resume") == 0
    assert len(asked) == 1


# ------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    "error", [FloatingPointError("the ends are not finite"), ValueError("two calls of the network differ")]
)
def test_a_network_that_cannot_be_measured_is_trained_all_the_same(
    error, train, tmp_path, monkeypatch, capsys
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("scoresde.cli.train.measured", fail)
    assert train() == 0
    assert line_of(capsys) == f"scoresde: no levels were measured: {error}"
    assert load_levels(tmp_path / "run") is None
    assert load_denoiser(tmp_path / "run").shape == (2,)


def test_without_matplotlib_there_is_no_picture(train, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert train() == 0
    refused(capsys, "no picture: matplotlib is not installed")
    assert isinstance(load_levels(tmp_path / "run"), Measured)
    assert not (tmp_path / "run" / "levels.png").exists()


def test_a_file_of_no_levels_is_found_before_the_first_step(train, asked, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "levels.json").write_text("mine")
    assert train() == 2
    refused(capsys, r"levels\.json holds no measured levels")
    assert files(tmp_path / "run") == {"levels.json": b"mine"}
