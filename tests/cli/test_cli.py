"""The ``scoresde sample`` and ``tune`` commands; ``train`` is tested with training."""

import re
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde import EDM, Denoiser, Plan
from scoresde.cli import tune as command
from scoresde.cli.main import main
from scoresde.cli.shared import Loaded
from scoresde.data.pictures import save_grid, tile
from scoresde.denoisers.predictions import edm
from scoresde.tuning import Settings

TUNING = sys.modules["scoresde.tuning.tune"]  # the module, not the function of its name
FITTED = TUNING.fit_candidates


def drawn(folder, *arguments):
    assert main(["sample", "--nfe", "4", "--quiet", "--out", str(folder), *arguments]) == 0
    return {
        str(path.relative_to(folder)): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))
    }


def test_samples_are_numbered_images_and_a_grid(tmp_path):
    pictures = drawn(tmp_path / "out", "--n", "5")
    assert list(pictures) == ["grid.png", *(f"images/{i:06d}.png" for i in range(5))]
    assert pictures["images/000003.png"].shape == (28, 28)
    # Three columns and two rows of 28 pixels, with lines of one between and around: 59 x 88; all ten times.
    assert pictures["grid.png"].shape == (590, 880)
    sheet = pictures["grid.png"][::10, ::10]
    assert np.array_equal(pictures["grid.png"], sheet.repeat(10, 0).repeat(10, 1))
    assert np.array_equal(sheet[30:58, 1:29], pictures["images/000003.png"])


def test_a_sample_is_the_same_in_any_run(tmp_path):
    whole = drawn(tmp_path / "whole", "--n", "6")
    parts = drawn(tmp_path / "part", "--n", "2", "--first", "3", "--batch-size", "1")
    # A step of grey where float32 kernels of another batch size round another way.
    assert np.abs(whole["images/000004.png"].astype(int) - parts["images/000004.png"]).max() <= 1


def test_seed_label_solver_and_sde_make_a_difference(tmp_path):
    base = drawn(tmp_path / "base", "--n", "1", "--label", "3")["images/000000.png"]
    others = {
        "seed": ["--seed", "1", "--label", "3"],
        "label": ["--label", "5"],
        "solver": ["--label", "3", "--solver", "em"],
    }
    for name, arguments in others.items():
        assert not np.array_equal(
            drawn(tmp_path / name, "--n", "1", *arguments)["images/000000.png"], base
        ), name


def test_all_sdes_of_one_network_give_one_picture_at_convergence(tmp_path):
    pictures = [
        drawn(tmp_path / sde, "--n", "1", "--sde", sde, "--nfe", "40", "--spacing", "uniform-lambda")[
            "images/000000.png"
        ]
        for sde in ("edm", "cosine", "rectified-flow", "ve")
    ]
    # The flow is one curve; what differs is the range of sigma / alpha, 50 or 80 to 0.002 or 0.01.
    for picture in pictures[1:]:
        assert np.abs(picture.astype(int) - pictures[0]).mean() < 2


def test_a_grid_keeps_every_image_in_its_place():
    x = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 3, 2, 2)
    sheet = tile(x, columns=3, gap=1)
    assert sheet.shape == (3, 7, 10)
    assert sheet[:, 1, 1::3].tolist() == [[0, 1, 2]] * 3
    assert sheet[:, 4, 1::3].tolist() == [[3, 4, 5]] * 3


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\(1 or 3, H, W\), got \(5,\)"):
        save_grid(tmp_path / "x.png", torch.zeros(2, 5))
    with pytest.raises(ValueError, match="finite"):
        save_grid(tmp_path / "x.png", torch.full((1, 1, 2, 2), float("nan")))
    assert not list(tmp_path.iterdir())


BAD = {
    "solver": (["--solver", "dmp2"], "dmp2.*dpm2"),
    "option": (["--solver", "ddim:eta=-1"], "eta.*-1"),
    "sde": (["--sde", "vpp"], "vpp.*vp"),
    "spacing": (["--spacing", "karas"], "karas.*karras"),
    "spacing option": (["--spacing", "karras:rho=-1"], "rho.*-1"),
    "nfe": (["--nfe", "0"], "nfe.*0"),
    "too small": (["--nfe", "1", "--solver", "heun"], "nfe.*at least 2.*1"),
    "n": (["--n", "0"], "--n .*0"),
    "first": (["--first", "-1"], "--first .*-1"),
    "batch size": (["--batch-size", "0"], "--batch-size.*0"),
    "label": (["--label", "11"], "11"),
    "device": (["--device", "gpuu"], "gpuu"),
    "checkpoint": (["--checkpoint", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path, capsys):
    arguments, pattern = BAD[case]
    out = tmp_path / "out"
    assert main(["sample", "--quiet", "--out", str(out), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert re.search(pattern, printed.err), printed.err
    assert not out.exists()


def tuned(monkeypatch, folder, *arguments, network=lambda x, t: torch.tanh(x)):
    """The command with few solvers in the race, on a network of two numbers."""
    few = partial(Settings, iterations=2, bands=2, solvers=("ddim", "dpmpp-2m"), spacings=("karras",))
    monkeypatch.setattr(command, "Settings", few)
    small = Denoiser(network, EDM(t_min=0.02, t_max=20.0), edm()).eval()
    monkeypatch.setattr(command, "load", lambda *_: Loaded(small, (2,)))
    options = ["--samples", "32", "--held-out", "64", "--quiet", "--out", str(folder)]
    return main(["tune", *options, *arguments])


def test_tune_writes_plans_reports_and_pictures_and_skips_what_is_there(tmp_path, monkeypatch, capsys):
    assert tuned(monkeypatch, tmp_path, "--nfe", "2", "3") == 0
    assert "network calls        3" in capsys.readouterr().out
    names = [f"{kind}-{nfe}.{end}" for kind, end in (("report", "json"), ("tuned", "json")) for nfe in (2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "tuned-2.png", "tuned-3.png"])
    assert Plan.load(tmp_path / "tuned-3.json").nfe == 3
    before = (tmp_path / "tuned-3.json").stat()
    assert tuned(monkeypatch, tmp_path, "--nfe", "3") == 0
    assert "there already" in capsys.readouterr().out
    assert (tmp_path / "tuned-3.json").stat() == before
    assert tuned(monkeypatch, tmp_path, "--nfe", "3", "--seed", "1") == 2
    assert "another tuning" in capsys.readouterr().err


CALLS: list[tuple[str, bool]] = []  # of every call, when it was, and whether in low precision
PHASE = ["before"]  # global variables are no settings of a network, of which a tuning keeps a fingerprint


def test_a_draft_in_low_precision_races_and_the_network_itself_is_fitted_to(tmp_path, monkeypatch):
    def network(x, t):
        CALLS.append((PHASE[0], torch.is_autocast_enabled("cpu")))
        return torch.tanh(x)

    def fitted(*arguments):
        PHASE[0] = "fit"
        found = FITTED(*arguments)
        PHASE[0] = "after"
        return found

    monkeypatch.setattr(TUNING, "fit_candidates", fitted)
    assert tuned(monkeypatch, tmp_path, "--nfe", "3", "--draft-dtype", "bfloat16", network=network) == 0
    low = [low for _, low in CALLS]
    assert low.index(True) >= 32 + 64  # the teacher and its certificate
    assert low[::-1].index(True) >= 2 * 3  # the picture, at least
    assert not any(low for phase, low in CALLS if phase == "fit")
    # The race of 3 calls each: two solvers, again on more noises, and with no free step or one of five.
    assert sum(low for phase, low in CALLS if phase == "before") == 3 * (2 + 2 + 2 * 6)
    assert not all(low for phase, low in CALLS if phase == "before")  # the teacher
    assert Plan.load(tmp_path / "tuned-3.json").about["dtype"] == "torch.float32"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--nfe", "1"], "at least 2"),
        (["--nfe", "2", "300"], "at most 256"),
        (["--nfe", "8", "--samples", "20"], "20 samples"),
        (["--batch-size", "0"], "--batch-size"),
        (["--held-out", "1"], "held_out"),
        (["--starts", "0"], "starts"),
        (["--nfe", "3", "--label", "1"], "no classes"),
        (["--nfe", "3", "--device", "gpuu"], "gpuu"),
    ],
)
def test_bad_input_of_tune_is_one_line_and_writes_nothing(arguments, pattern, tmp_path, monkeypatch, capsys):
    assert tuned(monkeypatch, tmp_path / "out", *arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert re.search(pattern, printed), printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--samples", "48"], r"samples 32, here 48"),
        (["--gamma", "0.5"], r"gamma 0.2, here 0.5"),
        (["--label", "1"], r"labels \[0, 1\], here \[1\]"),
    ],
)
def test_a_plan_of_other_labels_or_settings_is_not_taken_for_this_one(
    more, said, tmp_path, monkeypatch, capsys
):
    few = ["--nfe", "2", "--samples", "32", "--held-out", "64", "--quiet", "--out", str(tmp_path)]
    monkeypatch.setattr(
        command,
        "Settings",
        partial(Settings, iterations=2, bands=2, solvers=("ddim", "dpmpp-2m"), spacings=("karras",)),
    )
    small = Denoiser(lambda x, t, cond: torch.tanh(x), EDM(t_min=0.02, t_max=20.0), edm()).eval()
    monkeypatch.setattr(command, "load", lambda *_: Loaded(small, (2,), (0, 1)))
    assert main(["tune", *few]) == 0
    assert main(["tune", *few]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(["tune", *few, *more]) == 2
    assert re.search(said, capsys.readouterr().err)
