"""Samples as pictures: what is drawn, how large, and what is refused before it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.data.pictures import check_images, save_grid, save_image, scale_for

X = torch.linspace(-1, 1, 3 * 2 * 4 * 5).reshape(3, 2, 4, 5)[:, :1]


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [
        (1, 1, 900),
        (8, 8, 112),
        (73, 73, 12),
        (233, 233, 4),  # 64 digits of 28 x 28
        (29, 233, 4),
        (600, 500, 2),
        (700, 700, 1),
        (5000, 30, 1),
    ],
)
def test_grids_are_scaled_by_whole_factors_to_about_900_pixels(height, width, factor):
    assert scale_for(height, width) == scale_for(width, height) == factor


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_grid_is_written_to_a_str_or_a_path(tmp_path, kind):
    save_grid(kind(tmp_path / "deep" / "x.png"), X)
    small = tmp_path / "small.png"
    save_grid(kind(small), X, columns=2, scale=1)
    sheet, large = np.asarray(Image.open(small)), np.asarray(Image.open(tmp_path / "deep" / "x.png"))
    # Two rows of 4 and two columns of 5 pixels, with lines of one.
    assert sheet.shape == (11, 13)
    assert np.array_equal(large, sheet.repeat(69, 0).repeat(69, 1))
    assert np.array_equal(sheet[1:5, 7:12], ((X[1, 0] + 1) * 127.5).round().numpy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_an_image_is_written_as_it_is(tmp_path, kind, channels):
    pixels = torch.arange(channels * 20, dtype=torch.uint8).reshape(channels, 4, 5)
    save_image(kind(tmp_path / "x.png"), pixels)
    found = np.atleast_3d(np.asarray(Image.open(tmp_path / "x.png")))
    assert np.array_equal(np.moveaxis(found, 2, 0), pixels)


@pytest.mark.parametrize(
    "shape", [(2, 8, 8), (4, 8, 8), (0, 8, 8), (1, 0, 8), (8, 8), (5,), (7, 1, 8, 8), ()]
)
def test_shapes_that_are_no_pictures_are_refused_before_there_is_a_sample(shape):
    with pytest.raises(ValueError, match=r"shape \(1 or 3, H, W\), got \("):
        check_images(shape)


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 1, 1), torch.Size((3, 8, 9)), [1, 2, 3]])
def test_pictures_have_one_or_three_channels(shape):
    check_images(shape)


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda path: save_grid(path, X[:0]), "got 0 images"),
        (lambda path: save_grid(path, X, columns=0), "got 3 images, 0 and None"),
        (lambda path: save_grid(path, X, scale=0), "got 3 images, None and 0"),
        (lambda path: save_grid(path, X.expand(3, 2, 4, 5)), r"got \(2, 4, 5\)"),
        (lambda path: save_grid(path, X[0]), r"got \(4, 5\)"),
        (lambda path: save_grid(path, X.round().byte()), "got torch.uint8"),
        (lambda path: save_image(path, X[0]), "uint8, got torch.float32"),
        (lambda path: save_image(path, torch.zeros(2, 4, 5, dtype=torch.uint8)), r"got \(2, 4, 5\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_is_written(tmp_path, write, named):
    with pytest.raises(ValueError, match=named):
        write(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
