"""``scoresde sample`` on small networks that ``scoresde train`` made: processes, runs, folders, labels."""

import json
import re
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest
from small_commands import DIGITS, refused, trained, trained_on_vectors

from scoresde.cli.main import main
from scoresde.cli.shared import Loaded, labels_asked, load
from scoresde.denoisers.predictions import PREDICTIONS
from scoresde.processes.catalogue import SDES
from scoresde.sampling.sample import sample


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("network"))


def drawn(network, out, *arguments):
    return main(
        ["sample", "--quiet", "--checkpoint", str(network), "--out", str(out), "--n", "2", *arguments]
    )


@pytest.fixture
def no_draw(monkeypatch):
    """Fail if a sample is drawn."""

    def draw(*_, **__):
        raise AssertionError("a sample was drawn")

    monkeypatch.setattr("scoresde.cli.sample.sample", draw)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize("sde", SDES)
def test_what_train_accepts_can_be_sampled_at_the_defaults(sde, tmp_path, capsys):
    for prediction in PREDICTIONS:
        of = [f"sde={{name='{sde}'}}", f"prediction={{name='{prediction}'}}"]
        if sde == "rectified-flow" and prediction in ("noise", "score", "edm"):
            # At t = 1 such a network sees no data at all: refused before the training, with what would do.
            (tmp_path / "small.toml").write_text(DIGITS)
            config = ["--config", str(tmp_path / "small.toml"), "--out", str(tmp_path / "out")]
            capsys.readouterr()
            assert main(["train", *config, *of]) == 2
            refused(capsys, r"could not be sampled under RectifiedFlow.*sde\.t_max = 0\.999")
            of.append("sde.t_max=0.999")
        run = trained(tmp_path, *of)
        assert drawn(run, run / "samples") == 0, prediction
        assert len(files(run / "samples/images")) == 2


# ------------------------------------------------------------------------------------- what is run


@pytest.mark.parametrize(
    "solver", ["ode:method=dopri5,rtol=1e-2,atol=1e-2", "dpm-adaptive-12:rtol=0.5", "scipy:rtol=0.1,atol=0.1"]
)
def test_adaptive_solvers_run_by_tolerance(solver, network, tmp_path, capsys):
    assert drawn(network, tmp_path / "out", "--solver", solver) == 0
    calls = float(re.search(r"2 samples of ([\d.]+) network calls", capsys.readouterr().out)[1])
    assert calls > 5
    assert drawn(network, tmp_path / "few", "--solver", solver, "--nfe", "4") == 2
    refused(capsys, "not done after [34] network calls.*raise nfe")
    assert not (tmp_path / "few").exists()


def test_an_unstable_run_is_said_to_be_in_one_line(network, tmp_path):
    """In a process of its own, where a warning is shown and not raised; the samples are drawn."""
    command = [sys.executable, "-m", "scoresde.cli", "sample", "--quiet", "--checkpoint", str(network)]
    for solver, nfe in (("seeds-2", "8"), ("er-sde-3", "8")):
        out = tmp_path / solver
        done = subprocess.run(
            [*command, "--out", str(out), "--n", "2", "--solver", solver, "--nfe", nfe],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        assert len(files(out / "images")) == 2
        lines = done.stderr.splitlines()
        if solver == "er-sde-3":
            assert lines == []
        else:
            assert len(lines) == 1
            assert lines[0].startswith("scoresde: warning: seeds-2 is unstable with 8 network calls on these")


@pytest.mark.parametrize("solver", ["ddim", "ode", "torchsde", "parallel"])
def test_solvers_of_fixed_steps_have_a_budget_of_20_calls(solver, network, tmp_path, capsys):
    assert drawn(network, tmp_path / "usual", "--solver", solver) == 0
    assert drawn(network, tmp_path / "said", "--solver", solver, "--nfe", "20") == 0
    said = capsys.readouterr().out
    assert "20" in said or solver == "parallel"  # whose rounds are its own
    for name in ("000000.png", "000001.png"):
        usual, other = (tmp_path / folder / "images" / name for folder in ("usual", "said"))
        assert usual.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("solver", "least"),
    [("heun", 2), ("dpm3", 3), ("rk4", 4), ("pc", 2), ("restart", 3), ("ode", 2), ("dpm-adaptive-23", 3)],
)
def test_a_budget_that_is_too_small_for_the_solver_is_refused(
    solver, least, network, tmp_path, capsys, no_draw
):
    assert drawn(network, tmp_path / "out", "--solver", solver, "--nfe", str(least - 1)) == 2
    refused(capsys, rf"nfe must be at least {least} for .*, got {least - 1}$")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------- found before the draw


def test_channels_that_make_no_picture_are_refused_before_the_draw(tmp_path, capsys, no_draw):
    np.save(tmp_path / "two.npy", np.zeros((4, 2, 8, 8), np.float32))
    two = DIGITS.replace("digits", str(tmp_path / "two.npy")).replace(", classes = 10", ", in_channels = 2")
    run = trained(tmp_path, config=two)
    capsys.readouterr()
    assert drawn(run, tmp_path / "out") == 2
    refused(capsys, r"pictures need images of shape \(1 or 3, H, W\), got \(2, 8, 8\)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "below", "below/it"])
def test_a_folder_that_cannot_be_written_is_found_before_the_draw(below, network, tmp_path, capsys, no_draw):
    (tmp_path / "file").write_text("kept")
    assert drawn(network, tmp_path / "file" / below) == 2
    refused(capsys, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


def test_a_read_only_folder_is_found_before_the_draw_and_left_as_it_was(
    network, tmp_path, capsys, no_draw, monkeypatch
):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert drawn(network, tmp_path) == 2
    refused(capsys, f"Permission denied: '{tmp_path}'")


# ------------------------------------------------------------------------------------- stale files


def test_samples_lie_apart_from_their_picture(network, tmp_path, capsys):
    assert drawn(network, tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["grid.png", "images/000000.png", "images/000001.png", "run.json"]
    assert str(tmp_path / "out/images/") in capsys.readouterr().out


def test_a_run_is_added_to_and_another_is_refused(network, tmp_path, capsys):
    out = tmp_path / "out"
    assert drawn(network, out) == 0
    first = {name: (out / name).read_bytes() for name in files(out)}
    assert drawn(network, out, "--first", "2") == 0
    assert [name for name in files(out) if "images" in name] == [f"images/00000{i}.png" for i in range(4)]
    assert all((out / name).read_bytes() == first[name] for name in first if "images" in name)
    before = {name: (out / name).read_bytes() for name in files(out)}
    for other in (["--seed", "1"], ["--solver", "ddim"], ["--nfe", "4"], ["--label", "3"], ["--sde", "vp"]):
        capsys.readouterr()
        assert drawn(network, out, *other) == 2
        refused(capsys, "holds samples of other settings; name another --out, or add --again")
        assert {name: (out / name).read_bytes() for name in files(out)} == before


def test_again_removes_what_this_program_wrote_and_nothing_else(network, tmp_path):
    out = tmp_path / "out"
    assert drawn(network, out, "--n", "5") == 0
    for name in ("mine.png", "images/mine.png", "notes.txt", "images/12.png"):
        (out / name).write_text("kept")
    assert drawn(network, out, "--seed", "1", "--again") == 0
    images = ["images/000000.png", "images/000001.png", "images/12.png", "images/mine.png"]
    assert files(out) == ["grid.png", *images, "mine.png", "notes.txt", "run.json"]
    assert (out / "notes.txt").read_text() == "kept"


def test_a_draw_that_fails_leaves_the_samples_that_were_there(network, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert drawn(network, out) == 0
    before = {name: (out / name).read_bytes() for name in files(out)}

    def fail(*_, **__):
        raise FloatingPointError("not finite")

    monkeypatch.setattr("scoresde.cli.sample.sample", fail)
    assert drawn(network, out, "--seed", "1", "--again") == 2
    assert {name: (out / name).read_bytes() for name in files(out)} == before


@pytest.mark.parametrize("name", ["000007.png", "grid.png", "images/000001.png", "samples.json"])
def test_samples_of_no_known_run_are_neither_mixed_with_nor_removed(name, network, tmp_path, capsys, no_draw):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("kept")
    for again in ([], ["--again"]):
        assert drawn(network, tmp_path, *again) == 2
        refused(capsys, r"but no run\.json; name another --out")
    assert files(tmp_path) == [name]


@pytest.mark.parametrize("content", ["", "[" * 100_000, "\xff"])
def test_a_damaged_record_is_refused_by_its_name(content, network, tmp_path, capsys, no_draw):
    (tmp_path / "grid.png").write_text("")
    (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    assert drawn(network, tmp_path, "--again") == 2
    refused(capsys, re.escape(f"{tmp_path / 'run.json'} is damaged"))


def test_vectors_are_one_file_of_one_run(tmp_path):
    run = trained_on_vectors(tmp_path)
    out = tmp_path / "out"
    assert drawn(run, out) == 0
    assert files(out) == ["run.json", "samples.json"]
    assert np.shape(json.loads((out / "samples.json").read_text())) == (2, 2)
    assert drawn(run, out, "--n", "3") == 2
    assert drawn(run, out, "--n", "3", "--again") == 0
    assert np.shape(json.loads((out / "samples.json").read_text())) == (3, 2)


# ------------------------------------------------------------------------------------- numbers of samples


def test_the_largest_numbers_of_samples_can_be_drawn(network, tmp_path, capsys):
    last = 2**63 - 1
    assert drawn(network, tmp_path / "out", "--first", str(last - 1)) == 0
    assert (tmp_path / f"out/images/{last}.png").exists()
    for first in (last, last + 1, 10**30):
        capsys.readouterr()
        assert drawn(network, tmp_path / "beyond", "--first", str(first)) == 2
        refused(capsys, f"--first.*{first}")


# ------------------------------------------------------------------------------------- labels

PETS = Loaded(None, (1,), (0, 2), ("cat", "dog", "3"), 3)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (None, [0, 2]),
        (["cat"], [0]),
        (["3"], [2]),  # the name of class 2, before the number of no class
        (["2", "0", "cat"], [2, 0, 0]),
    ],
)
def test_labels_go_by_name_or_by_number(given, labels):
    assert labels_asked(given, PETS) == labels
    assert labels_asked(["3"], PETS._replace(names=("cat", "dog", "cow"))) == [3]  # no class


@pytest.mark.parametrize("word", ["dog", "1", "4", "-1", "Cat", "", "²", "9" * 5000])
def test_a_label_that_was_not_trained_is_refused(word):
    with pytest.raises(
        ValueError,
        match=r"--label must be one that the network was trained on, got .*known: 3, cat; or 3 for no class",
    ):
        labels_asked([word], PETS)


def test_no_class_is_a_label_where_it_was_trained():
    with pytest.raises(ValueError, match=r"got '10'; known: 7$"):
        labels_asked(["10"], Loaded(None, (1,), (7,)))


def test_guidance_needs_a_network_that_knows_no_class(tmp_path, capsys, no_draw):
    run = trained(tmp_path, "optimization.label_dropout=0.0")
    capsys.readouterr()
    assert drawn(run, tmp_path / "out", "--guidance", "2") == 2
    refused(capsys, r"--guidance needs a network .* at times without them \(optimization.label_dropout\)")
    assert not (tmp_path / "out").exists()


def test_sample_and_tune_use_the_labels_that_were_seen(network, tmp_path, monkeypatch):
    seen = []

    def drawing(*arguments, cond, **options):
        seen.append(cond.tolist())
        return sample(*arguments, cond=cond, **options)

    monkeypatch.setattr("scoresde.cli.sample.sample", drawing)
    assert drawn(network, tmp_path / "all", "--n", "12") == 0
    assert drawn(network, tmp_path / "some", "--n", "3", "--first", "1", "--label", "7", "8") == 0
    assert seen == [[*range(10), 0, 1], [8, 7, 8]]


def test_the_network_that_ships_has_seen_all_its_classes_and_none():
    network = load(Namespace(checkpoint="mnist", sde=None))
    assert (network.seen, network.names, network.no_class) == (tuple(range(10)), (), 10)
