"""Pixels are what an image shows, from files and rows of data sets alike."""

import numpy as np
import pytest
import torch
from hugging_face import Table, pretend
from PIL import Image

from scoresde.data import load_data
from scoresde.data.pixels import pixels, to_float

GREY = np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8)  # 5 high, 4 wide
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
DEEP = np.array([[0, 1, 257, 32767], [32768, 40000, 65534, 65535]], dtype=np.uint16)
RED = Image.new("RGB", (4, 5), (255, 0, 0))


def lab():
    return Image.merge("LAB", [Image.new("L", (4, 5), value) for value in (138, 208, 195)])


def palette(transparency=None):
    image = RED.convert("P", palette=Image.Palette.ADAPTIVE)
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


@pytest.fixture(params=["file", "row"])
def shown(request, tmp_path, monkeypatch):
    """The numbers that an image file is read as, from a folder or as a row of a Hugging Face data set."""

    def read(image, name, save=None, **options):
        path = tmp_path / name
        image.save(path, **save or {})
        if request.param == "file":
            return load_data(str(tmp_path), **options).x[0]
        pretend(monkeypatch, Table({"image": [Image.open(path)]}))
        return load_data("hf:some", **options).x[0]

    return read


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),  # the first row is at the right
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNED)
def test_images_are_turned_as_their_exif_says(shown, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = shown(Image.fromarray(COLOURS), "a.png", {"exif": exif})
    assert np.array_equal(found.numpy(), np.moveaxis(TURNED[orientation](COLOURS), 2, 0))


RED_AS = {
    "CMYK jpeg": (RED.convert("CMYK"), "a.jpg", [255, 0, 0]),
    "CMYK tiff": (RED.convert("CMYK"), "a.tif", [255, 0, 0]),
    "YCbCr tiff": (RED.convert("YCbCr"), "a.tif", [255, 0, 0]),
    "LAB tiff": (lab(), "a.tif", [255, 0, 0]),
    "palette": (palette(), "a.png", [255, 0, 0]),
    "palette with a clear colour": (palette(0), "a.png", [255, 0, 0, 0]),
    "palette with alpha": (palette().convert("PA"), "a.tif", [255, 0, 0, 255]),
    "RGBA": (RED.convert("RGBA"), "a.png", [255, 0, 0, 255]),
    "grey": (RED.convert("L"), "a.png", [76]),
    "grey with alpha": (RED.convert("LA"), "a.png", [76, 255]),
}


def tolerance(case):
    return 11 if case.startswith("LAB") else 1  # red's L, a and b are rounded to 8 bits


@pytest.mark.parametrize("case", RED_AS)
def test_red_is_red_in_every_mode(shown, case):
    image, name, colour = RED_AS[case]
    found = shown(image, name)
    assert found.dtype == torch.uint8
    assert found.shape == (len(colour), 5, 4)
    assert np.abs(found.numpy().astype(int) - np.array(colour)[:, None, None]).max() <= tolerance(case)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("case", RED_AS)
def test_every_mode_becomes_the_one_asked_for(shown, case, mode):
    image, name, _ = RED_AS[case]
    found = shown(image, name, mode=mode)
    red = {"L": 76, "R": 76 if case.startswith("grey") else 255}[mode[0]]
    assert found.shape == (len(mode), 5, 4)
    assert found.dtype == torch.uint8
    assert (found[0].int() - red).abs().max() <= tolerance(case)
    if mode.endswith("A"):
        assert found[-1].unique().tolist() == [0 if "clear" in case else 255]


def test_one_bit_is_black_and_white(shown):
    found = shown(Image.fromarray(GREY > 100), "a.png")
    assert np.array_equal(found.numpy()[0], 255 * (GREY > 100))


DEEP_AS = {
    "png": (Image.fromarray(DEEP), "a.png"),
    "32-bit tiff": (Image.fromarray(DEEP.astype(np.int32)), "a.tif"),
    "big-endian tiff": (Image.frombytes("I;16B", (4, 2), DEEP.astype(">u2").tobytes()), "a.tif"),
}


@pytest.mark.parametrize("case", DEEP_AS)
def test_16_bits_are_kept_as_floats_and_scaled_to_8_where_asked(shown, case):
    found = shown(*DEEP_AS[case])
    assert found.dtype == torch.float32
    assert np.abs(found.numpy()[0] - np.linspace(-1, 1, 65536)[DEEP]).max() < 1e-7
    assert (found.min().item(), found.max().item()) == (-1, 1)
    eight = shown(*DEEP_AS[case], mode="RGB")
    assert eight.dtype == torch.uint8
    assert eight[1].tolist() == [[0, 0, 1, 127], [128, 156, 255, 255]]  # value / 257


def test_floats_stay_and_are_scaled_to_8_bits_where_asked(shown):
    floats = np.array([[-1, 0.25], [0.5, 1]], dtype=np.float32)
    assert shown(Image.fromarray(floats), "a.tif").tolist() == [floats.tolist()]
    assert shown(Image.fromarray(floats), "a.tif", mode="L").tolist() == [[[0, 159], [191, 255]]]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (np.array([[0, 65536]], dtype=np.int32), r"must be in 0..65535, .* got 0 to 65536"),
        (np.array([[-1, 5]], dtype=np.int32), r"must be in 0..65535, .* got -1 to 5"),
        (np.array([[0.0, 1.5]], dtype=np.float32), r"must be in -1..1, .* got 0.0 to 1.5"),
        (np.array([[0.0, np.nan]], dtype=np.float32), r"must be in -1..1, .* got nan to nan"),
    ],
)
@pytest.mark.parametrize("mode", ["", "L"])
def test_numbers_of_unknown_range_are_refused(shown, values, named, mode):
    with pytest.raises(ValueError, match=named):
        shown(Image.fromarray(values), "a.tif", mode=mode)


# ------------------------------------------------------------------------------------- size


def halves(height, width):
    """The left half black, the right one white."""
    values = np.zeros((height, width), dtype=np.uint8)
    values[:, width // 2 :] = 255
    return Image.fromarray(values)


def test_images_are_scaled_to_height_and_width(shown):
    found = shown(halves(32, 64), "a.png", size=(8, 16))
    assert found.shape == (1, 8, 16)
    assert found[0, 4, [0, 15]].tolist() == [0, 255]
    # What has the size already is not touched.
    assert np.array_equal(shown(Image.fromarray(COLOURS), "a.png", size=[5, 4]), np.moveaxis(COLOURS, 2, 0))


def test_one_size_is_for_both_sides_and_another_shape_is_stretched_with_a_warning(shown):
    with pytest.warns(UserWarning, match="stretched; data.crop = true crops them"):
        found = shown(halves(16, 64), "a.png", size=8)
    assert found.shape == (1, 8, 8)
    assert found[0, 4, [0, 7]].tolist() == [0, 255]


@pytest.mark.parametrize("crop", [True, "center"])
def test_crop_keeps_the_middle(shown, crop):
    wide = np.full((10, 30), 7, dtype=np.uint8)
    wide[:, 10:20] = 200
    assert shown(Image.fromarray(wide), "a.png", size=10, crop=crop).unique().tolist() == [200]
    assert shown(Image.fromarray(wide.T), "a.png", size=10, crop=crop).unique().tolist() == [200]
    assert shown(Image.fromarray(wide), "a.png", size=(10, 8), crop=crop).shape == (1, 10, 8)


def test_scaling_keeps_16_bits_and_their_range(shown):
    edge = Image.fromarray(np.repeat([[0, 65535]], 32, 0).repeat(16, 1).astype(np.uint16))
    found = shown(edge, "a.png", size=8)
    assert found.dtype == torch.float32
    assert (found[0, 0, 0].item(), found[0, 0, 7].item()) == (-1, 1)
    assert found.abs().max() <= 1  # Lanczos alone would overshoot at the edge
    assert len(found.unique()) > 2


def test_the_images_given_are_left_as_they_are():
    image = Image.fromarray(COLOURS)
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    pixels(image, "L", 3, crop=True)
    assert (image.tobytes(), image.size, image.getexif()[0x0112]) == (before, (4, 5), 6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"size": (8, 8193)}, r"size must be at most 8192, got \(8, 8193\)"),
        ({"size": (1, 2, 3)}, r"size must be one integer or two \(height, width\), got \(1, 2, 3\)"),
        ({"mode": "rgb"}, "mode must be one of L, LA, RGB, RGBA, or '' .* got 'rgb'"),
        ({"mode": "CMYK"}, "mode must be one of .* got 'CMYK'"),
        ({"size": 8, "crop": "left"}, "crop must be true, false or 'center', got 'left'"),
        ({"crop": True}, "crop needs size"),
        ({"unreadable": "ignore"}, "unreadable must be 'error' or 'skip', got 'ignore'"),
        ({"max_bytes": 0}, "max_bytes must be at least 1, got 0"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(options, named):
    with pytest.raises(ValueError, match=named):
        load_data("hf:none", **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"size": 2.5}, "size must be an integer, got 2.5"),
        ({"size": True}, "size must be an integer, got True"),
        ({"size": (8, "8")}, "size must be an integer, got '8'"),
        ({"max_bytes": True}, "max_bytes must be an integer, got True"),
        ({"max_bytes": 1e9}, "max_bytes must be an integer, got 1000000000.0"),
    ],
)
def test_sizes_that_are_not_integers_are_refused_before_anything_is_read(options, named):
    with pytest.raises(TypeError, match=named):
        load_data("hf:none", **options)


def test_sizes_may_be_integers_of_any_library():
    image = Image.fromarray(COLOURS)
    theirs = pixels(image, size=(np.int64(2), np.uint8(3)), crop=True)
    assert np.array_equal(theirs, pixels(image, size=(2, 3), crop=True))


def test_pixels_become_minus_1_to_1_and_floats_stay():
    floats = to_float(torch.arange(256, dtype=torch.uint8))
    assert (floats[0].item(), floats[255].item()) == (-1.0, 1.0)
    torch.testing.assert_close(
        floats.double(), torch.linspace(-1, 1, 256, dtype=torch.float64), rtol=0, atol=1e-7
    )
    x = torch.linspace(-3, 3, 8, dtype=torch.float64)
    assert torch.equal(to_float(x), x.float())
