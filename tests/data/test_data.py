"""Data sets: what is read, as what, and what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.data import load_data

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)  # 4 images, 6 high, 5 wide
COLOURS = np.random.default_rng(1).integers(0, 256, (4, 6, 5, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 2])


def npy(folder, array):
    path = folder / "data.npy"
    np.save(path, array)
    return str(path)


def npz(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


def images(folder, names, pixels=COLOURS):
    for name, array in zip(names, pixels, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / name)
    return str(folder)


# ------------------------------------------------------------------------------------- what is read


def test_digits_are_those_of_scikit_learn_on_the_whole_range_of_pixels():
    from sklearn.datasets import load_digits

    x, labels, _ = load_data("digits")
    original = load_digits()
    assert (x.shape, x.dtype, labels.dtype) == ((1797, 1, 8, 8), torch.uint8, torch.int64)
    assert labels.tolist() == original.target.tolist()
    assert (x.min().item(), x.max().item()) == (0, 255)
    # 0..16 became 0..255: back to a whole number, to half a step.
    assert np.abs(x[:, 0].numpy() * (16 / 255) - original.images).max() < 0.04


def test_an_array_of_images_gets_a_channel(tmp_path):
    x, labels, _ = load_data(npy(tmp_path, PIXELS))
    assert labels is None
    assert x.dtype == torch.uint8
    assert np.array_equal(x.numpy(), PIXELS[:, None])


def test_channels_come_first_wherever_they_were(tmp_path):
    last = load_data(Path(npy(tmp_path, COLOURS))).x
    first = load_data(npy(tmp_path, np.moveaxis(COLOURS, 3, 1))).x
    assert last.shape == (4, 3, 6, 5)
    assert torch.equal(first, last)
    assert np.array_equal(last.numpy()[2, 1], COLOURS[2, :, :, 1])
    assert last.is_contiguous()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_may_be_of_any_size_and_become_float32(tmp_path, dtype):
    vectors = (100 * np.random.default_rng(0).standard_normal((5, 2))).astype(dtype)
    x, labels, _ = load_data(npy(tmp_path, vectors))
    assert labels is None
    assert x.dtype == torch.float32
    assert np.array_equal(x.numpy(), vectors.astype(np.float32))


def test_float_images_are_kept_to_the_ends_of_their_range(tmp_path):
    floats = np.linspace(-1, 1, 40, dtype=np.float32).reshape(2, 5, 4)
    x = load_data(npy(tmp_path, floats)).x
    assert x.dtype == torch.float32
    assert np.array_equal(x[:, 0].numpy(), floats)


def test_arrays_of_an_archive_are_found_by_name(tmp_path):
    source = npz(tmp_path, train=PIXELS, test=PIXELS[:2], classes=LABELS)
    x, labels, _ = load_data(source, images="train", labels="classes")
    assert np.array_equal(x[:, 0].numpy(), PIXELS)
    assert (labels.tolist(), labels.dtype) == (LABELS.tolist(), torch.int64)
    x, labels, _ = load_data(source, images="test")
    assert len(x) == 2
    assert labels is None


def test_a_single_array_needs_no_name(tmp_path):
    assert len(load_data(npz(tmp_path, whatever=PIXELS)).x) == 4


def test_a_folder_of_images_is_read_in_the_order_of_the_names(tmp_path):
    x, labels, _ = load_data(images(tmp_path, ["b.png", "a.PNG", "c.bmp", "d.tiff"]))
    assert labels is None
    assert np.array_equal(x.numpy(), np.moveaxis(COLOURS[[1, 0, 2, 3]], 3, 1))


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    source = images(tmp_path, ["dog/1.png", "cat/1.png", "cat/2.png", "eel/1.png"], PIXELS)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    x, labels, _ = load_data(source)
    assert np.array_equal(x[:, 0].numpy(), PIXELS[[1, 2, 0, 3]])
    assert labels.tolist() == [0, 0, 1, 2]


def test_one_sub_folder_is_no_class(tmp_path):
    assert load_data(images(tmp_path, [f"all/{i}.png" for i in range(4)])).labels is None


def test_images_with_a_palette_have_its_colours(tmp_path):
    colours = np.repeat(np.repeat(COLOURS[:1, :2, :2], 3, 1), 3, 2)[0]
    Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert np.array_equal(load_data(str(tmp_path)).x[0].numpy(), np.moveaxis(colours, 2, 0))


# ------------------------------------------------------------------------------------- what is refused


def nan(array):
    array = array.copy()
    array.flat[3] = np.nan
    return array


PAIR = {"images": "a", "labels": "y"}
FOUR = ["0.png", "1.png", "2.png", "3.png"]
SMALL = np.zeros((2, 3, 4), dtype=np.float32)
DIFFERENT = [COLOURS[0], COLOURS[1, :5], COLOURS[2], COLOURS[3]]


@pytest.mark.parametrize(
    ("make", "options", "named"),
    [
        (lambda d: "digit", {}, "data source must be 'digits', 'hf:NAME', .* or a folder, got 'digit'"),
        (lambda d: str(d / "none.npy"), {}, "data source must be .*none.npy"),
        (lambda d: str(d / "none.npz"), {"images": "x"}, "data source must be .*none.npz"),
        (lambda d: npy(d, 1.5 + SMALL), {}, r"data.npy: float images must be in \[-1, 1\] .* 1.5 to 1.5"),
        (lambda d: npy(d, SMALL - 2), {}, r"float images must be in \[-1, 1\] .*, got -2.0 to -2.0"),
        (lambda d: npy(d, nan(SMALL)), {}, "float images must be in .* got nan to nan"),
        (lambda d: npy(d, nan(SMALL[0])), {}, "vectors finite in float32, got nan to nan"),
        (lambda d: npy(d, SMALL[0] + np.inf), {}, "vectors finite in float32, got inf to inf"),
        # Finite as it stands, but not as the float32 that it becomes.
        (lambda d: npy(d, np.array([[0.0, 1e300]])), {}, "vectors finite in float32, got 0.0 to 1e\\+300"),
        (lambda d: npy(d, np.array([[-1e39, 0.0]])), {}, "vectors finite in float32, got -1e\\+39 to 0.0"),
        (lambda d: npy(d, SMALL.astype(np.int64)), {}, "must hold uint8 or .* numbers, got int64"),
        (lambda d: npy(d, SMALL.astype(np.uint16)), {}, "must hold uint8 or .* numbers, got uint16"),
        (lambda d: npy(d, SMALL.astype(bool)), {}, "must hold uint8 or floating point numbers, got bool"),
        (lambda d: npy(d, SMALL.astype(np.complex64)), {}, "got complex64"),
        (lambda d: npy(d, np.array(["a", "b"])), {}, "must hold uint8 or floating point numbers, got <U1"),
        (lambda d: npy(d, SMALL[0, 0]), {}, r"must hold \(N, D\), .* numbers, got shape \(4,\)"),
        (lambda d: npy(d, SMALL[None, None]), {}, r"got shape \(1, 1, 2, 3, 4\)"),
        (lambda d: npy(d, SMALL[:0]), {}, r"got shape \(0, 1, 3, 4\)"),
        (lambda d: npy(d, np.float32(3)), {}, r"got shape \(\)"),
        (lambda d: npy(d, np.array([{}], dtype=object)), {}, "data.npy is not a whole numpy file of numbers"),
        (lambda d: npz(d, x=np.array([{}])), {}, "data.npz is not a whole numpy file of numbers"),
        (lambda d: npz(d, a=PIXELS, b=LABELS), {}, "data.npz has 2 arrays; set images to one of a, b"),
        (lambda d: npz(d), {}, "data.npz has 0 arrays"),
        (lambda d: npz(d, a=PIXELS), {"images": "b"}, "data.npz has no array 'b', only a"),
        (lambda d: npz(d, a=PIXELS), {"labels": "y"}, "data.npz has no array 'y', only a"),
        (
            lambda d: npz(d, a=PIXELS, y=LABELS[:3]),
            PAIR,
            r"labels must be 4 integers, got shape \(3,\)",
        ),
        (
            lambda d: npz(d, a=PIXELS, y=LABELS[:, None]),
            PAIR,
            r"labels must be 4 integers, got shape \(4, 1\)",
        ),
        (
            lambda d: npz(d, a=PIXELS, y=LABELS * 1.0),
            PAIR,
            "labels must be 4 integers, .* of float64",
        ),
        (
            lambda d: npz(d, a=PIXELS, y=np.array([0, 1, 2, 2**63], dtype=np.uint64)),
            PAIR,
            "labels must fit 64 bits with a sign, got 9223372036854775808",
        ),
        (lambda d: npy(d, PIXELS), {"split": "test"}, "data.npy has no splits: .*, got 'test'"),
        (lambda d: npy(d, PIXELS), {"size": 8}, "holds numbers, not images .* got 8 and ''"),
        (lambda d: npz(d, a=PIXELS), {"mode": "L"}, "holds numbers, not images .* got None and 'L'"),
        (lambda d: "digits", {"size": (4, 4)}, r"digits holds numbers, .* got \(4, 4\) and ''"),
        (lambda d: npy(d, PIXELS), {"labels": "y"}, "data.npy has no named arrays: .* got '', 'y'"),
        (lambda d: "digits", {"images": "x"}, "digits has no named arrays: .* got 'x', ''"),
        (lambda d: str(d), {"labels": "y"}, "has no named arrays"),
        (lambda d: str(d), {}, "holds no images .*.png"),
        (lambda d: images(d, FOUR, DIFFERENT), {}, r"\(3, 6, 5\) in .*0.png and \(3, 5, 5\) in .*1"),
        (
            lambda d: images(d, ["0.png", "1.png"], [COLOURS[0], PIXELS[0]]),
            {},
            r"one size and mode, got \(3, 6, 5\) in .*0.png and \(1, 6, 5\) in .*1.png",
        ),
        (
            lambda d: images(d, ["a/0.png", "b/1.png", "2.png", "a/3.png"]),
            {},
            "images must all be in sub-folders, the classes, .*, got .*2.png beside sub-folders",
        ),
    ],
)
def test_data_that_cannot_be_is_refused_by_its_source(tmp_path, make, options, named):
    with pytest.raises(ValueError, match=named):
        load_data(make(tmp_path), **options)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
@pytest.mark.parametrize(
    "damage",
    [cut, lambda path: path.write_bytes(b""), lambda path: path.write_text("no numbers at all")],
    ids=["cut", "empty", "text"],
)
def test_a_damaged_numpy_file_is_refused_by_its_path(tmp_path, name, damage):
    (npy if name.endswith("y") else npz)(tmp_path, **{"array" if name.endswith("y") else "x": PIXELS})
    damage(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is not a whole numpy file of numbers"):
        load_data(str(tmp_path / name))


def test_an_archive_with_damaged_content_is_refused_by_its_path(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=PIXELS)
    with zipfile.ZipFile(path) as archive:
        offset = archive.infolist()[0].header_offset
    content = bytearray(path.read_bytes())
    content[offset + 80] ^= 0xFF  # within the compressed numbers
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"data\.npz is not a whole numpy file of numbers"):
        load_data(str(path))


def test_numpy_files_of_the_other_name_are_refused(tmp_path):
    npz(tmp_path, x=PIXELS)
    (tmp_path / "data.npz").rename(tmp_path / "a.npy")
    npy(tmp_path, PIXELS)
    (tmp_path / "data.npy").rename(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"a\.npy .* it holds several arrays; name it .npz"):
        load_data(str(tmp_path / "a.npy"))
    with pytest.raises(ValueError, match=r"b\.npz .* it holds a single array; name it .npy"):
        load_data(str(tmp_path / "b.npz"))


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_text("no image")], ids=["cut", "text"])
def test_a_damaged_image_is_refused_by_its_path(tmp_path, damage):
    images(tmp_path, FOUR)
    damage(tmp_path / "2.png")
    with pytest.raises(ValueError, match=r"2\.png is not a whole image"):
        load_data(str(tmp_path))
