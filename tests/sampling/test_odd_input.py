"""Input that is right in an unusual way, or wrong in one: taken, or refused in one line that names it."""

import re

import numpy as np
import pytest
import torch

from scoresde import EDM, Denoiser, sample
from scoresde.cli.main import main
from scoresde.data import load_data
from scoresde.networks import MLP, UNet
from scoresde.training import TrainingOptions, start, train
from scoresde.training.checkpoint import TRAINING

CONFIGURATION = """
[data]
source = "{data}"
labels = "y"
images = "x"
[network]
name = "mlp"
width = 8
classes = 2
[prediction]
name = "edm"
[levels]
budgets = []
"""


def asked(folder, *more):
    x = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32) * 0.5
    np.savez(folder / "data.npz", x=x, y=np.arange(16) % 2)
    (folder / "a.toml").write_text(CONFIGURATION.format(data=folder / "data.npz"))
    return ["train", "--config", str(folder / "a.toml"), "--out", str(folder / "run"), "--quiet", *more]


def test_overrides_may_stand_on_both_sides_of_an_option(tmp_path):
    arguments = asked(tmp_path, "optimization.steps=2", "--save-every", "1", "optimization.batch_size=4")
    assert main(arguments) == 0
    assert len((tmp_path / "run" / "loss.jsonl").read_text().splitlines()) == 2
    assert '"batch_size": 4' in (tmp_path / "run" / "configuration.json").read_text()


@pytest.mark.parametrize(
    "more", [["--fast"], ["optimization.steps=2", "--quiet", "x=1", "--fast=1"], ["a=1", "--quiet", "b"]]
)
def test_words_that_are_no_overrides_are_refused(more, tmp_path, capsys):
    assert main(asked(tmp_path, *more)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_labels_may_be_asked_for_one_by_one_and_what_training_goes_on_from_is_no_network(tmp_path, capsys):
    assert main(asked(tmp_path, "optimization.steps=2", "optimization.batch_size=4")) == 0
    out = ["--nfe", "2", "--n", "2", "--quiet", "--out", str(tmp_path / "out")]
    labels = ["--label", "1", "--label", "0"]
    assert main(["sample", "--checkpoint", str(tmp_path / "run"), *labels, *out]) == 0
    assert re.search(r'"labels": \[\s*1,\s*0\s*\]', (tmp_path / "out" / "run.json").read_text())
    capsys.readouterr()
    assert main(["sample", "--checkpoint", str(tmp_path / "run" / TRAINING), *out]) == 2
    assert re.search("holds the state for more training; name its folder", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sample", "--n", str(2**63 - 1), "--nfe", "2"], "not enough memory"),
        (["train", "--config", "digits", "network.blocks=10000000"], "blocks must be at most 1,000"),
        (["train", "--config", "digits", f"optimization.batch_size={2**63 - 1}"], "not enough memory"),
        (["train", "--config", "digits", "data.source="], "data source must be"),
    ],
)
def test_what_is_too_much_is_one_line(arguments, said, tmp_path, capsys):
    assert main([*arguments, "--quiet", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_a_network_of_a_million_layers_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match="layers must be at most 1,000"):
        MLP(2, layers=10**6)
    with pytest.raises(ValueError, match="blocks must be at most 1,000"):
        UNet(blocks=10**6)


def test_the_working_folder_is_no_data_set_without_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="data source must be"):
        load_data("")


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_counts_of_a_training_may_be_integers_of_any_library(kind):
    options = TrainingOptions(steps=kind(70), batch_size=kind(8))
    assert (type(options.steps), type(options.batch_size)) == (int, int)
    state = start(Denoiser(MLP(2, 8, 1), EDM(), "edm"), options)
    assert [made.step for made in train(state, torch.randn(40, 2) * 0.5, options=options)][-1] == 70


@pytest.mark.parametrize("value", [3.0, "3", True, None])
def test_counts_of_a_training_are_integers(value):
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        TrainingOptions(batch_size=value)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int16])
def test_labels_for_training_may_be_of_any_integers(kind):
    options = TrainingOptions(steps=2, batch_size=4)

    def losses(kind):
        torch.manual_seed(0)
        state = start(Denoiser(MLP(2, 8, 1, classes=2), EDM(), "edm"), options)
        x = torch.linspace(-1, 1, 32).reshape(16, 2)
        return [made.loss for made in train(state, x, (torch.arange(16) % 2).to(kind), options=options)]

    assert losses(kind) == losses(torch.int64)


def test_weights_in_float16_are_not_trained():
    with pytest.raises(ValueError, match="weights must not be float16"):
        start(Denoiser(MLP(2).half(), EDM(), "edm"), TrainingOptions())


def test_labels_for_a_network_without_classes_are_named():
    with pytest.raises(ValueError, match="the network has no classes"):
        sample(Denoiser(MLP(2), EDM(), "edm").eval(), "ddim", (2, 2), nfe=2, cond=torch.tensor([0, 1]))


def test_the_warning_of_another_network_points_at_the_call():
    with pytest.warns(UserWarning, match="tuned for another network") as warned:
        sample(Denoiser(MLP(2), EDM(), "edm").eval(), "tuned", (2, 2), nfe=5)
    assert {one.filename for one in warned} == {__file__}
