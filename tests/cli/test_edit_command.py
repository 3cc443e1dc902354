"""``scoresde edit`` on the included network, with few calls, and on small networks."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_commands import DIGITS, refused, trained, trained_on_vectors

from scoresde import prepare
from scoresde.cli.main import main
from scoresde.pretrained import pretrained
from scoresde.sampling.editing import denoised, noised, up_to


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Three digits of the network."""
    out = tmp_path_factory.mktemp("digits")
    assert main(["sample", "--nfe", "8", "--quiet", "--n", "3", "--out", str(out)]) == 0
    return sorted((out / "images").glob("*.png"))


def edited(out, *arguments):
    """The numbers and the pixels that the command wrote, by name."""
    assert main(["edit", "--quiet", "--nfe", "4", "--out", str(out), *map(str, arguments)]) == 0
    numbers = dict(np.load(out / "edited.npz"))
    images = {path.stem: np.asarray(Image.open(path)) for path in (out / "images").iterdir()}
    assert sorted(path.name for path in out.iterdir()) == ["edited.npz", "images", "sheet.png"]
    assert len(images) == sum(map(len, numbers.values()))
    return numbers, images


def pixels(x):
    return ((x.clip(-1, 1) + 1) * np.float32(127.5)).round().astype(np.uint8)


def of_file(path):
    return np.asarray(Image.open(path), np.float32) / 127.5 - 1


# ------------------------------------------------------------------------------------------ actions


def test_little_noise_keeps_a_picture_and_much_changes_it(digits, tmp_path):
    numbers, images = edited(tmp_path / "out", *digits, "--from", "0.05", "20")
    assert list(numbers) == ["input", "from-0.05", "from-20"]
    for k, path in enumerate(digits):
        assert np.array_equal(images[f"{k:06d}-input"], np.asarray(Image.open(path)))
        for name, values in numbers.items():
            assert np.array_equal(images[f"{k:06d}-{name}"], pixels(values[k, 0]))
    near, far = (np.abs(numbers[name] - numbers["input"]).mean() for name in ("from-0.05", "from-20"))
    assert near < 0.03
    assert far > 0.1
    # Three rows and three columns of 28 pixels, with lines between and around: 88, ten times.
    sheet = np.asarray(Image.open(tmp_path / "out/sheet.png"))
    assert sheet.shape == (880, 880)
    assert np.array_equal(sheet[::10, ::10][30:58, 59:87], images["000001-from-20"])


def test_draws_without_noise_are_those_of_the_library(digits, tmp_path):
    out = tmp_path / "out"
    numbers, images = edited(out, *digits[:2], "--denoise", "1", "--add-noise", "--draws", "3", "--seed", "5")
    assert list(numbers) == ["input", "noisy", "draw-0", "draw-1", "draw-2", "mean", "deviation"]
    denoiser = pretrained("mnist").denoiser
    plan = prepare("dpmpp-2m-sde", up_to(denoiser.sde, 1.0), 4, "karras")
    x = torch.from_numpy(np.stack([of_file(path) for path in digits[:2]])[:, None])
    y = noised(plan.start, x, seed=5) / plan.start.alpha
    drawn = denoised(denoiser, plan, y, draws=3, seed=5, cond=torch.tensor([10, 10]))
    assert np.allclose(numbers["noisy"], y, atol=1e-6)
    # Float32, over four calls of the network.
    assert np.allclose(numbers["draw-1"], drawn[:, 1], atol=1e-4)
    assert np.allclose(numbers["mean"], drawn.mean(1), atol=1e-4)
    assert np.allclose(numbers["deviation"], drawn.std(1), atol=1e-4)
    assert np.array_equal(images["000001-deviation"], pixels(2 * numbers["deviation"][1, 0] - 1))
    # Of the noise of deviation 1, most is gone; more in the mean of the draws.
    error, noise = (np.sqrt(((numbers[k] - numbers["input"]) ** 2).mean()) for k in ("mean", "noisy"))
    assert error < 0.35 < 0.95 < noise


def test_a_noisy_picture_is_a_file_of_numbers_beyond_the_pixels(digits, tmp_path):
    whole, _ = edited(tmp_path / "whole", *digits, "--denoise", "0.5", "--add-noise", "--draws", "2")
    assert np.abs(whole["noisy"]).max() > 2
    for name, array in {"n.npy": whole["noisy"], "hw.npy": whole["noisy"][:, 0]}.items():
        np.save(tmp_path / name, array)
        again, _ = edited(
            tmp_path / f"again-{name}",
            tmp_path / name,
            "--denoise",
            "0.5",
            "--draws",
            "2",
            "--batch-size",
            "1",
        )
        assert "input" not in again
        assert np.allclose(again["draw-1"], whole["draw-1"], atol=1e-3)


def test_an_unchanged_class_gives_the_pictures_back_and_another_changes_them(digits, tmp_path):
    labels = ["--label", "0", "1", "2"]
    same, images = edited(tmp_path / "same", *digits, *labels, "--to", "0", "1", "2")
    assert list(same) == ["input", "edited"]
    assert np.abs(same["edited"] - same["input"]).max() < 1e-5
    assert np.array_equal(images["000002-edited"], images["000002-input"])
    other, _ = edited(tmp_path / "other", *digits, *labels, "--to", "9", "--guidance", "2")
    little, _ = edited(tmp_path / "little", *digits, *labels, "--to", "9", "--up-to", "0.2")
    far, near = (np.abs(numbers["edited"] - numbers["input"]).mean() for numbers in (other, little))
    assert near < 0.1 < far


def test_what_is_white_in_the_mask_is_kept(digits, tmp_path):
    mask = Image.new("L", (28, 28), 0)
    mask.paste(255, (0, 0, 28, 14))
    mask.save(tmp_path / "mask.png")
    numbers, images = edited(tmp_path / "out", *digits, "--mask", tmp_path / "mask.png", "--draws", "2")
    assert list(numbers) == ["input", "kept", "repainted-0", "repainted-1"]
    for name in ("kept", "repainted-0", "repainted-1"):
        assert np.array_equal(numbers[name][:, :, :14], numbers["input"][:, :, :14])
    a, b = (numbers[f"repainted-{j}"][:, :, 14:] for j in (0, 1))
    assert np.abs(a - b).mean() > 0.05
    assert (images["000000-kept"][14:] == 128).all()


def test_label_solver_and_sde_make_a_difference(digits, tmp_path):
    base, _ = edited(tmp_path / "base", digits[0], "--from", "5")
    ways = {"label": ["--label", "3"], "solver": ["--solver", "ddim"], "seed": ["--seed", "1"]}
    ways["guidance"] = ["--label", "3", "--guidance", "3"]
    drawn = [base["from-5"]]
    for name, arguments in ways.items():
        drawn.append(edited(tmp_path / name, digits[0], "--from", "5", *arguments)[0]["from-5"])
    for k, one in enumerate(drawn):
        assert all(np.abs(one - other).mean() > 0.005 for other in drawn[:k])
    # sigma / alpha means the same noise in every process.
    for sde in ("vp", "rectified-flow"):
        other, _ = edited(tmp_path / sde, digits[0], "--from", "0.5", "--sde", sde, "--nfe", "8")
        own, _ = edited(tmp_path / f"own-{sde}", digits[0], "--from", "0.5", "--nfe", "8")
        assert np.abs(other["from-0.5"] - own["from-0.5"]).mean() < 0.02


def test_results_of_an_earlier_command_are_kept_until_again(digits, tmp_path, capsys):
    out, here = tmp_path / "out", [str(digits[0]), "--quiet", "--nfe", "2", "--out", str(tmp_path / "out")]
    edited(out, *digits, "--from", "1", "2")
    (out / "images" / "mine.png").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    capsys.readouterr()
    assert main(["edit", *here, "--from", "3"]) == 2
    refused(capsys, r"out holds sheet.png; name another --out, or add --again")
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    assert main(["edit", *here, "--from", "3", "--again"]) == 0
    names = sorted(path.name for path in (out / "images").iterdir())
    assert names == ["000000-from-3.png", "000000-input.png", "mine.png"]


# ---------------------------------------------------------------------------------------- bad input


def arrays(folder):
    """Files that hold no pictures of the network."""
    Image.new("L", (20, 28)).save(folder / "other.png")
    Image.new("L", (28, 28), 255).save(folder / "white.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "words.txt").write_text("no picture")
    np.save(folder / "wide.npy", np.full((1, 28, 28), 3, np.float32))
    np.save(folder / "nan.npy", np.full((1, 28, 28), np.nan, np.float32))
    np.save(folder / "long.npy", np.zeros((1, 28, 28), np.int64))
    np.save(folder / "rgb.npy", np.zeros((2, 3, 28, 28), np.uint8))
    np.save(folder / "none.npy", np.zeros((0, 28, 28), np.float32))


BAD = {
    "no action": (["ONE"], "one of the arguments --from --denoise --to --mask is required"),
    "two actions": (["ONE", "--from", "1", "--denoise", "1"], "not allowed with"),
    "no picture": (["--from", "1"], "FILE"),
    "no file": (["nowhere.png", "--from", "1"], "nowhere.png is no file"),
    "a folder": (["FOLDER", "--from", "1"], "is no file"),
    "other size": (
        ["ONE", "FOLDER/other.png", "--from", "1"],
        "other.png must hold grey pictures of 28 x 28 pixels, as the network's, got 28 x 20 pixels",
    ),
    "broken": (["FOLDER/broken.png", "--from", "1"], "broken.png is not a whole image"),
    "text": (["FOLDER/words.txt", "--from", "1"], r"words.txt must be a picture .*, \.npy or \.npz"),
    "range": (["FOLDER/wide.npy", "--from", "1"], r"wide.npy must hold numbers in \[-1, 1\], got 3 to 3"),
    "not finite": (["FOLDER/nan.npy", "--denoise", "1"], "nan.npy must hold finite numbers"),
    "integers": (["FOLDER/long.npy", "--from", "1"], "long.npy must hold uint8 or floating.*int64"),
    "colour": (["FOLDER/rgb.npy", "--from", "1"], r"rgb.npy must hold grey.*\(2, 3, 28, 28\)"),
    "empty": (["FOLDER/none.npy", "--from", "1"], r"none.npy must hold grey.*\(0, 28, 28\)"),
    "sigma": (["ONE", "--from", "1", "100"], r"sigma must be above 0\.002 and at most 80, .*got 100"),
    "sigma of 0": (["ONE", "--denoise", "0"], "sigma must be above"),
    "sigma of words": (["ONE", "--from", "one"], "--from.*'one'"),
    "mask size": (["ONE", "--mask", "FOLDER/other.png"], "other.png must hold .* 28 x 28 .*got 28 x 20"),
    "white mask": (["ONE", "--mask", "FOLDER/white.png"], "--mask must be black where .*white.png is white"),
    "no mask": (["ONE", "--mask", "FOLDER/nothing.png"], "nothing.png is no file"),
    "label": (["ONE", "--label", "11", "--from", "1"], "--label must be one .*'11'"),
    "to": (["ONE", "--label", "1", "--to", "12"], "--to must be one .*'12'"),
    "to without label": (["ONE", "--to", "1"], "--to needs --label"),
    "up to": (["ONE", "--label", "1", "--to", "2", "--up-to", "90"], "sigma must be .*got 90"),
    "up to little": (
        ["ONE", "--label", "1", "--to", "2", "--up-to", "0.05"],
        "--up-to must be above 0.05, got",
    ),
    "one call": (["ONE", "--label", "1", "--to", "2", "--nfe", "1"], "at least 2 steps .*got 1"),
    "solver of to": (
        ["ONE", "--label", "1", "--to", "2", "--solver", "deis"],
        "--solver is for --from, .*got --to",
    ),
    "draws of to": (["ONE", "--label", "1", "--to", "2", "--draws", "2"], "--draws is for --from"),
    "added noise": (["ONE", "--from", "1", "--add-noise"], "--add-noise is for --denoise, got --from"),
    "no noise": (
        ["ONE", "--denoise", "1", "--solver", "deis"],
        "--denoise needs a solver that draws noise.*deis",
    ),
    "tuned": (["ONE", "--from", "1", "--solver", "tuned", "--nfe", "6"], "tuned"),
    "draws": (["ONE", "--denoise", "1", "--draws", "0"], "--draws must be at least 1"),
    "guidance": (["ONE", "--from", "1", "--guidance", "2"], "--guidance needs --label"),
    "infinite": (["ONE", "--from", "1", "--label", "1", "--guidance", "inf"], "weight must be finite|inf"),
    "solver": (["ONE", "--from", "1", "--solver", "dmp2"], "dmp2.*dpm2"),
    "device": (["ONE", "--from", "1", "--device", "gpuu"], "gpuu"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, digits, tmp_path, capsys, monkeypatch):
    arguments, pattern = BAD[case]
    arrays(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"ONE": str(digits[0])}
    given = [names.get(word, word).replace("FOLDER", str(tmp_path)) for word in arguments]
    assert main(["edit", "--quiet", "--nfe", "2", "--out", str(tmp_path / "out"), *given]) == 2
    refused(capsys, pattern)
    assert not (tmp_path / "out").exists()


def test_networks_without_pictures_or_without_no_class(digits, tmp_path, capsys):
    vectors = trained_on_vectors(tmp_path)
    here = ["--quiet", "--nfe", "2", "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert main(["edit", str(digits[0]), "--from", "1", "--checkpoint", str(vectors), *here]) == 2
    refused(capsys, r"pictures need images of shape \(1 or 3, H, W\), got \(2,\)")
    labelled = trained(tmp_path, "optimization.label_dropout=0.0", config=DIGITS)
    np.save(tmp_path / "one.npy", np.zeros((8, 8), np.uint8))
    one = [str(tmp_path / "one.npy"), "--from", "1", "--checkpoint", str(labelled), *here]
    capsys.readouterr()
    assert main(["edit", *one]) == 2
    refused(capsys, "--label must be given")
    assert main(["edit", *one, "--label", "3", "--guidance", "2"]) == 2
    refused(capsys, "--guidance needs a network that was trained with and without labels")
    assert main(["edit", *one, "--label", "3"]) == 0
