"""``scoresde measure`` on small networks that ``scoresde train`` made."""

import json
import shutil
import sys

import pytest
import torch
from small_commands import refused, trained_on_vectors
from small_levels import take_by_hand

from scoresde import Transported
from scoresde.cli.main import main
from scoresde.plans.fingerprint import fingerprint
from scoresde.spacings.measured import Measured
from scoresde.training.checkpoint import load_denoiser
from scoresde.tuning import measured


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_on_vectors(tmp_path_factory.mktemp("network"))


@pytest.fixture
def folder(network, tmp_path):
    """A folder of a training run, to write into."""
    return shutil.copytree(network, tmp_path / "run")


@pytest.fixture
def asked(monkeypatch):
    """The arguments of each measurement, which returns levels chosen by hand."""
    return take_by_hand(monkeypatch, "measure")


@pytest.fixture
def no_call(monkeypatch):
    """Fail if the network is called."""

    def call(*_, **__):
        raise AssertionError("the network was called")

    monkeypatch.setattr("scoresde.denoisers.network.Denoiser.forward", call)


def measure(folder, *arguments):
    return main(["measure", "--quiet", "--checkpoint", str(folder), *arguments])


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------------------------- what is measured


@pytest.mark.slow
def test_the_levels_are_those_of_the_library_for_the_same_network(folder, capsys):
    assert measure(folder, "--nfe", "3", "2", "--seed", "5") == 0
    trained = load_denoiser(folder)
    expected = measured(trained.denoiser, (2,), budgets=(2, 3), cond=torch.tensor([0, 1]), seed=5)
    levels = Measured.load(folder / "levels.json")
    assert levels == expected
    assert levels.about == {**expected.about, "labels": [0, 1]}
    said = capsys.readouterr().out.splitlines()
    assert said[0] == str(folder / "levels.json")
    assert [line.split()[:2] for line in said[2:4]] == [
        [str(choice.calls), choice.solver] for choice in expected.choices
    ]
    assert said[4] == f"{expected.about['evaluations']} evaluations"


def test_what_is_asked_for_is_measured(folder, asked):
    assert measure(folder) == 0
    (first,) = asked
    assert (first["shape"], first["seed"], first["batch_size"]) == ((2,), 0, 128)
    assert first["budgets"] == [5, 8, 10, 20, 50]
    assert first["cond"].tolist() == [0, 1]
    assert fingerprint(first["denoiser"]) == fingerprint(load_denoiser(folder).denoiser)
    assert not any(module.training for module in first["denoiser"].modules())
    more = ["--seed", "-3", "--batch-size", "16", "--nfe", "9", "4", "9", "--label", "1", "2", "1"]
    assert measure(folder, *more, "--sde", "vp", "--out", str(folder / "vp.json")) == 0
    second = asked[1]
    assert (second["seed"], second["batch_size"], second["budgets"]) == (-3, 16, [4, 9])
    assert second["cond"].tolist() == [1, 2, 1]
    assert isinstance(second["denoiser"], Transported)
    assert Measured.load(folder / "vp.json").process == "VPSDE"


def test_levels_and_picture_lie_beside_the_network(folder, asked, capsys):
    before = files(folder)
    assert measure(folder, "--nfe", "4") == 0
    after = files(folder)
    assert after.keys() - before.keys() == {"levels.json", "levels.png"}
    assert {name: after[name] for name in before} == before
    about = json.loads(after["levels.json"])["about"]
    assert (about["weights"], about["labels"]) == (
        fingerprint(load_denoiser(folder).denoiser)["weights"],
        [0, 1],
    )
    assert capsys.readouterr().out.splitlines() == [
        str(folder / "levels.json"),
        "calls  solver         median  RMSE  elsewhere  samples  levels",
        "4      velocity-p3c4  0.25    0.5   12.5%      7        by hand",
        "1000 evaluations",
    ]
    assert measure(folder / "model.safetensors", "--nfe", "4") == 0  # the same network, by its file
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("of", [["--checkpoint", "mnist"], ["--checkpoint", "run", "--sde", "ve"]])
def test_levels_of_an_included_network_or_another_process_are_written_here(
    of, folder, asked, tmp_path, monkeypatch
):
    """Beside a network are the levels of its own process, and nothing is written into an installation."""
    monkeypatch.chdir(tmp_path)
    before = files(folder)
    assert main(["measure", "--quiet", "--nfe", "4", *of]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"run", "levels.json", "levels.png"}
    assert files(folder) == before


def test_without_matplotlib_there_is_no_picture_and_none_of_older_levels(folder, asked, monkeypatch, capsys):
    assert measure(folder, "--nfe", "4") == 0
    assert (folder / "levels.png").exists()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert measure(folder, "--nfe", "5", "--again") == 0
    refused(capsys, "no picture: matplotlib is not installed")
    assert not (folder / "levels.png").exists()
    assert Measured.load(folder / "levels.json").choices[0].calls == 5


# ------------------------------------------------------------------------------------- what is there


def test_levels_that_exist_are_shown_and_not_measured_again(folder, asked, capsys):
    assert measure(folder, "--nfe", "4", "6") == 0
    before, first = files(folder), capsys.readouterr().out.splitlines()
    assert measure(folder, "--nfe", "6", "4", "4") == 0
    again = capsys.readouterr().out.splitlines()
    assert again == [f"{folder / 'levels.json'} is there already", *first[1:]]
    assert files(folder) == before
    assert len(asked) == 1
    assert measure(folder, "--nfe", "4", "6", "--again") == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], r"seed 0, here 1"),
        (["--nfe", "4", "5"], r"budgets \[4\], here \[4, 5\]"),
        (["--label", "1"], r"labels \[0, 1\], here \[1\]"),
        (["--sde", "ve"], r"weights .*; sde EDM.*, here VESDE"),
    ],
)
def test_levels_of_other_settings_are_replaced_only_with_again(more, said, folder, asked, capsys):
    assert measure(folder, "--nfe", "4") == 0
    before, more = files(folder), ["--nfe", "4", "--out", str(folder / "levels.json"), *more]
    assert measure(folder, *more) == 2
    refused(capsys, rf"holds levels of other settings \({said}.*name another --out, or add --again")
    assert files(folder) == before
    assert len(asked) == 1
    assert measure(folder, *more, "--again") == 0
    assert files(folder) != before


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"format": "another"}', "\xff"])
def test_a_file_that_holds_no_levels_is_kept(content, folder, capsys, no_call):
    (folder / "levels.json").write_bytes(content.encode("latin-1"))
    before = files(folder)
    for again in ([], ["--again"]):
        assert measure(folder, "--nfe", "4", *again) == 2
        refused(capsys, r"levels\.json holds no measured levels")
        assert files(folder) == before


# ------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--nfe", "1"], "--nfe must be at least 2, got 1"),
        (["--nfe", "five"], "--nfe must be an integer, got 'five'"),
        (["--nfe", "2.5"], "--nfe must be an integer, got '2.5'"),
        (["--nfe", "5", "51"], r"from 2 to 50, got \[5, 51\]"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["--seed", "x"], "--seed.*'x'"),
        (["--label", "3"], "--label.*'3'; known: 0, 1; or 2 for no class"),
        (["--sde", "vpp"], "vpp.*vp"),
        (["--device", "gpuu"], "gpuu"),
        (["--out", "levels.png"], "--out must be a file named .json, got levels.png"),
        (["--out", "folder"], "--out must be a file named .json, got folder"),
        (["--out", "file/levels.json"], "file"),
        (["--checkpoint", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_before_a_call_and_writes_nothing(
    arguments, pattern, folder, tmp_path, monkeypatch, capsys, no_call
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    before = files(folder)
    assert measure(folder, *arguments) == 2
    refused(capsys, pattern)
    assert files(folder) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}


def test_a_network_whose_paths_are_not_finite_is_one_line_and_writes_nothing(folder, monkeypatch, capsys):
    """As one that was trained for too few steps may be."""
    before = files(folder)
    monkeypatch.setattr(
        "scoresde.denoisers.network.Denoiser.forward", lambda _, x, level, cond=None: x * float("inf")
    )
    assert measure(folder, "--nfe", "4") == 2
    refused(capsys, "not finite")
    assert files(folder) == before


@pytest.mark.parametrize("where", ["scoresde.cli.measure.measured", "scoresde.cli.measure.draw_levels"])
def test_an_interrupt_writes_nothing(where, folder, asked, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = files(folder)
    monkeypatch.setattr(where, interrupt)
    assert measure(folder, "--nfe", "4") == 130
    refused(capsys, "^scoresde: interrupted; no levels were written$")
    assert files(folder) == before
