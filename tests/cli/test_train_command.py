"""``scoresde train``: what it says, what it keeps of the data, and how commands end."""

import math
import re
import warnings
from functools import wraps
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from small_commands import DIGITS, line_of

from scoresde.cli.main import main
from scoresde.command import guarded, printable
from scoresde.files import locked
from scoresde.networks import NETWORKS, UNet
from scoresde.training.checkpoint import load_denoiser


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(DIGITS)
    return lambda *more: main(["train", "--config", "small.toml", "--quiet", *more])


def test_a_training_says_what_its_data_are_like_and_where_it_wrote(train, capsys):
    assert train("time_sampling={name='log-normal', mean=-0.8}") == 0
    about, end = capsys.readouterr().out.splitlines()
    assert about == (
        "1797 samples of 1 x 8 x 8, deviation 0.7518; prediction.sigma_data 0.5, time_sampling.mean -0.8"
    )
    assert end == "runs/small/: 1 steps; next: scoresde sample --checkpoint runs/small"
    assert train("--out", "b", "prediction={name='noise'}", "time_sampling={name='uniform'}") == 0
    assert capsys.readouterr().out.splitlines()[0] == "1797 samples of 1 x 8 x 8, deviation 0.7518"


def test_a_network_that_no_file_can_hold_is_refused_before_the_first_step(
    train, tmp_path, monkeypatch, capsys
):
    class Masked(UNet):
        @wraps(UNet.__init__)  # for its options
        def __init__(self, **options):
            super().__init__(**options)
            self.register_buffer("mask", torch.tensor(math.inf))

    monkeypatch.setitem(NETWORKS, "unet", Masked)
    assert train() == 2
    assert "mask holds numbers that are not finite" in line_of(capsys)
    assert not (tmp_path / "runs").exists()


def test_classes_have_the_names_of_their_folders(train, tmp_path, capsys):
    for k, name in enumerate(("cat", "cow", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(2):
            pixels = np.full((8, 8), 100 * k + i, np.uint8)
            pixels[:4] = 255 - pixels[:4]
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    of = ["data.source=pets", "network.classes=3", "time_sampling={name='log-normal', mean=-0.5}"]
    assert train(*of) == 0
    labels = load_denoiser(tmp_path / "runs/small").labels
    assert labels == ((0, 1, 2), ("cat", "cow", "dog"))
    sample = ["sample", "--checkpoint", "runs/small", "--quiet", "--n", "1", "--nfe", "2"]
    for word in ("cow", "1"):
        assert main([*sample, "--out", word, "--label", word]) == 0
    images = [(tmp_path / word / "images/000000.png").read_bytes() for word in ("cow", "1")]
    assert images[0] == images[1]
    capsys.readouterr()
    assert main([*sample, "--label", "cot"]) == 2
    assert "got 'cot'; did you mean 'c" in line_of(capsys)


def test_only_the_labels_that_were_seen_are_sampled_and_tuned_for(train, tmp_path, capsys):
    x = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "some.npz", x=x, y=np.array([2, 7] * 4))
    some = ["data.source=some.npz", "data.images=x", "data.labels=y"]
    assert train(*some) == 2
    assert "no sample has the label 0, 1, 3" in line_of(capsys)
    assert train(*some, "optimization.allow_missing_classes=true", "optimization.label_dropout=0.0") == 0
    assert load_denoiser(tmp_path / "runs/small").labels == ((2, 7), ())
    of = ["--checkpoint", "runs/small", "--quiet", "--label"]
    capsys.readouterr()
    for command in (["sample"], ["tune", "--nfe", "2", "--samples", "32"]):
        for label in ("3", "10"):
            assert main([*command, *of, label]) == 2
            assert line_of(capsys).endswith(f"got '{label}'; known: 2, 7")
    assert main(["sample", *of[:-1], "--n", "2", "--nfe", "2"]) == 0


def test_a_run_goes_on_with_its_own_data_only(train, tmp_path, capsys):
    x = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8)).astype(np.float32)
    of = ["data.source=x.npy", "network.classes=0"]
    np.save(tmp_path / "x.npy", x)
    assert train(*of) == 0
    assert train("--resume", *of, "optimization.steps=2") == 0
    np.save(tmp_path / "x.npy", x[::-1])
    capsys.readouterr()
    assert train("--resume", *of, "optimization.steps=3") == 2
    assert "other training data" in line_of(capsys)


def test_a_folder_that_another_run_holds_is_refused(train, tmp_path, capsys):
    with locked(tmp_path / "out"):
        assert train("--out", "out") == 2
        assert "another run is writing to out" in line_of(capsys)
    assert not list((tmp_path / "out").iterdir())


# ------------------------------------------------------------------------------------- how commands end


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"scoresde {version('scoresde')}\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ValueError("a\nb\x1b[2Jc\udcff"), 2, r"it: a b\x1b[2Jc\udcff"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "it: not enough memory: Default"),
        (RuntimeError("CUDA out of memory. Tried to allocate 3 GiB"), 2, "it: not enough memory: CUDA"),
        (
            RuntimeError("else"),
            1,
            "it: unexpected RuntimeError: else (set SCORESDE_TRACEBACK=1 to see where)",
        ),
        (ModuleNotFoundError("No module named 'rich'", name="rich"), 2, "pip install 'scoresde[bench]'"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2, "it: No module named 'x'"),
        (ValueError("9" * 10**6), 2, "9 ... 9"),
        (RecursionError(), 2, "it: RecursionError"),
    ],
)
def test_what_ends_a_command_is_one_printable_line(error, status, said, capsys):
    def run():
        raise error

    assert guarded("it", run) == status
    line = line_of(capsys)
    assert said in line
    assert line.isprintable()
    assert len(line) < 1100


def test_a_warning_is_one_printable_line_too():
    said, usual = [], warnings.formatwarning
    warned = UserWarning("this\nmay be \x1b wrong"), UserWarning, "file.py", 3
    assert guarded("it", lambda: said.append(warnings.formatwarning(*warned))) == 0
    assert said == ["it: warning: this may be \\x1b wrong\n"]
    assert warnings.formatwarning is usual


def test_names_of_folders_are_escaped_where_they_are_printed(train, tmp_path, capsys):
    assert train("--out", "o\x1b[31mut") == 0
    assert main(["sample", "--quiet", "--checkpoint", "o\x1b[31mut", "--n", "1", "--out", "s\x1b[2J"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"s\\x1b\[2J/images/", out)
    assert out.replace("\n", "").isprintable()
    assert printable("\x9b\u202e\ud800é\n") == "\\x9b\\u202e\\ud800é\n"
