"""Damaged files of every kind are read, or refused by their name: nothing else ever happens."""

import io
import zipfile

import numpy as np
import pytest
from hugging_face import Table, pretend
from PIL import Image

from scoresde.data import load_data

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (24, 20, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def exif():
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags


COLOUR, FLOAT = Image.fromarray(COLOURS), Image.fromarray(GREY.astype(np.float32) / 255)
IMAGES = {
    "png": saved(COLOUR, format="PNG", exif=exif()),
    "palette": saved(COLOUR.convert("P"), format="PNG", transparency=3),
    "16-bit": saved(Image.fromarray(GREY.astype(np.uint16) * 257), format="PNG"),
    "jpeg": saved(COLOUR, format="JPEG", exif=exif()),
    "cmyk": saved(COLOUR.convert("CMYK"), format="JPEG", progressive=True),
    "bmp": saved(COLOUR, format="BMP"),
    "gif": saved(COLOUR.convert("P"), format="GIF"),
    "webp": saved(COLOUR, format="WEBP", lossless=True, exif=exif()),
    "tiff": saved(COLOUR, format="TIFF"),
    "lzw": saved(FLOAT, format="TIFF", compression="tiff_lzw"),
    "deflate": saved(COLOUR.convert("LAB"), format="TIFF", compression="tiff_adobe_deflate"),
}


def arrays(compressed):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x=COLOURS[None], y=np.array([1]))
    return file.getvalue()


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


ARRAYS = {
    "uint8": ("a.npy", array(COLOURS)),
    "float16": ("a.npy", array((GREY / 255).astype(np.float16))),
    "float64": ("a.npy", array(GREY / 255)),
    "stored": ("a.npz", arrays(False)),
    "compressed": ("a.npz", arrays(True)),
}


def damaged(content, random):
    """The same bytes with a few changed, cut out, put in or doubled, more often near the start."""
    bytes_ = bytearray(content)
    for _ in range(random.integers(1, 5)):
        at = int(len(bytes_) * random.random() ** random.integers(1, 5))
        some = random.bytes(random.integers(1, 9))
        match random.integers(7):
            case 0:
                bytes_[at : at + 1] = some[:1]
            case 1:
                bytes_[at : at + len(some)] = some
            case 2:
                bytes_[at : at + len(some)] = bytes([random.choice([0, 255])]) * len(some)
            case 3:
                del bytes_[at:]
            case 4:
                del bytes_[at : at + len(some)]
            case 5:
                bytes_[at:at] = some
            case 6:
                bytes_[at:at] = bytes_[at : at + 8 * len(some)]
    return bytes(bytes_)


def refused(load, source, name):
    """Whether a file was refused, by its name; anything but ValueError passes through."""
    message = ""
    try:
        assert load(source).x.ndim in (2, 4)
    except ValueError as error:
        message = str(error)
    assert not message or name in message
    return bool(message)


def refused_images(kind, n, folder):
    """How many of n damaged images are refused."""
    random = np.random.default_rng(1)
    file, count = folder / "a.png", 0
    for _ in range(n):
        file.write_bytes(damaged(IMAGES[kind], random))
        count += refused(load_data, str(folder), "a.png")
    return count


def refused_arrays(kind, n, folder):
    """How many of n damaged files of arrays are refused."""
    random = np.random.default_rng(2)
    name, content = ARRAYS[kind]
    named = {"images": "x", "labels": "y"} if name.endswith(".npz") else {}
    count = 0
    for _ in range(n):
        (folder / name).write_bytes(damaged(content, random))
        count += refused(lambda source: load_data(source, **named), str(folder / name), name)
    return count


def refused_rows(kind, n, monkeypatch):
    """How many of n damaged rows of a data set, decoded when they are asked for, are refused."""
    random = np.random.default_rng(3)

    class Rows(Table):
        def __getitem__(self, key):
            image = Image.open(io.BytesIO(self.columns["image"][key]))
            image.load()
            return {"image": image}

        def select_columns(self, names):
            return self

    count = 0
    for _ in range(n):
        pretend(monkeypatch, Rows({"image": [damaged(IMAGES[kind], random)]}))
        count += refused(load_data, "hf:some", "some")
    return count


@pytest.mark.parametrize("kind", IMAGES)
def test_all_of_them_are_read_as_they_were(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(IMAGES[kind])  # under any name
    assert sorted(load_data(str(tmp_path)).x.shape[2:]) == [20, 24]


@pytest.mark.parametrize("kind", IMAGES)
def test_damaged_images_are_read_or_refused_by_name(tmp_path, kind):
    assert 8 <= refused_images(kind, 30, tmp_path)


@pytest.mark.parametrize("kind", ARRAYS)
def test_damaged_arrays_are_read_or_refused_by_name(tmp_path, kind):
    assert 20 <= refused_arrays(kind, 40, tmp_path)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_damaged_rows_are_read_or_refused_by_name(monkeypatch, kind):
    assert 8 <= refused_rows(kind, 30, monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("broken PNG file"),
        MemoryError(),
        NotImplementedError("unknown layout"),
        RecursionError("too deep"),
        Image.DecompressionBombError("too large"),
        zipfile.BadZipFile("no zip"),
        KeyError("tag"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    COLOUR.save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", COLOURS)
    np.savez(tmp_path / "c.npz", COLOURS)
    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr("numpy.lib.format.read_array", fail)
    for source, named in ((tmp_path, "a.png"), (tmp_path / "b.npy", "b.npy"), (tmp_path / "c.npz", "c.npz")):
        with pytest.raises(ValueError, match=rf"{named} is not a whole .*: .*{str(error) or 'MemoryError'}"):
            load_data(str(source))


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(COLOUR, format="EPS"))
    with pytest.raises(ValueError, match=r"a\.png is not a whole image: cannot identify"):
        load_data(str(tmp_path))
