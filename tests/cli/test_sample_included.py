"""``scoresde sample`` on the included network."""

import numpy as np
import pytest
from PIL import Image
from small_commands import refused

from scoresde.cli.main import main


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


def test_guidance_makes_a_difference_and_the_weight_1_makes_none(tmp_path):
    def image(name, *arguments):
        return drawn(tmp_path / name, "--n", "1", "--label", "3", *arguments)["images/000000.png"]

    base = image("base")
    assert np.array_equal(image("1", "--guidance", "1"), base)
    assert np.array_equal(image("far", "--guidance", "3", "--guidance-interval", "1e4", "inf"), base)
    several = [
        base,
        image("3", "--guidance", "3"),
        image("within", "--guidance", "3", "--guidance-interval", "0.3", "5"),
        image("none", "--guidance", "0"),
    ]
    for i, picture in enumerate(several):
        assert not any(np.array_equal(picture, other) for other in several[:i]), i


def test_the_record_knows_the_guidance(tmp_path, capsys):
    drawn(tmp_path, "--n", "1", "--guidance", "2")
    for other in ([], ["--guidance", "3"], ["--guidance", "2", "--guidance-interval", "0.1", "5"]):
        assert main(["sample", "--nfe", "4", "--quiet", "--out", str(tmp_path), "--n", "1", *other]) == 2
        refused(capsys, "holds samples of other settings")
    assert len(drawn(tmp_path, "--n", "1", "--first", "1", "--guidance", "2")) == 3


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


BAD = {
    "solver": (["--solver", "dmp2"], "dmp2.*dpm2"),
    "option": (["--solver", "ddim:eta=-1"], "eta.*-1"),
    "sde": (["--sde", "vpp"], "vpp.*vp"),
    "spacing": (["--spacing", "karas"], "karas.*karras"),
    "spacing option": (["--spacing", "karras:rho=-1"], "rho.*-1"),
    "nfe": (["--nfe", "0"], "nfe.*0"),
    "nfe of none": (["--nfe", "ten"], "--nfe must be an integer, got 'ten'"),
    "tuned": (["--nfe", "7", "--solver", "tuned"], "4, 5, 6, 8, 10; got 7"),
    "tuned without nfe": (["--solver", "tuned"], "4, 5, 6, 8, 10; got None"),
    "n": (["--n", "0"], "--n must be at least 1, got 0"),
    "first": (["--first", "-1"], "--first must be at least 0, got -1"),
    "batch size": (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
    "seed": (["--seed", "x"], "--seed.*'x'"),
    "unknown option": (["--nef", "3"], "unrecognized arguments: --nef 3"),
    "label": (["--label", "11"], "11"),
    "guidance": (["--guidance", "nan"], "--guidance: weight must be finite, got nan"),
    "guidance of no number": (["--guidance", "strong"], "--guidance.*'strong'"),
    "interval alone": (["--guidance-interval", "1", "2"], "--guidance-interval is for --guidance"),
    "interval upside down": (
        ["--guidance", "2", "--guidance-interval", "5", "0.3"],
        "--guidance: low and high must be 0 <= low < high, got 5.0 and 0.3",
    ),
    "one end": (["--guidance", "2", "--guidance-interval", "5"], "--guidance-interval: expected 2 arguments"),
    "device": (["--device", "gpuu"], "gpuu"),
    "checkpoint": (["--checkpoint", "nowhere"], "nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path, capsys):
    arguments, pattern = BAD[case]
    out = tmp_path / "out"
    assert main(["sample", "--quiet", "--out", str(out), *arguments]) == 2
    refused(capsys, pattern)
    assert not out.exists()
