"""Archives: what they claim, what they hold, and the memory that they may take."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy_format

from scoresde.data import load_data

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)


def npy(folder, array):
    np.save(folder / "data.npy", array)
    return str(folder / "data.npy")


def npz(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def header(shape, dtype="|u1", version=1):
    """What a .npy file of this shape begins with, without its numbers."""
    file = io.BytesIO()
    fields = {"shape": shape, "fortran_order": False, "descr": dtype}
    write = npy_format.write_array_header_1_0 if version == 1 else npy_format.write_array_header_2_0
    write(file, fields)
    return file.getvalue()


def written(folder, name, content, compression=zipfile.ZIP_DEFLATED):
    """A file of these bytes, as .npy or within a .npz."""
    if name.endswith(".npz"):
        with zipfile.ZipFile(folder / name, "w", compression) as archive:
            archive.writestr("x.npy", content)
    else:
        (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.fixture
def memory():
    """The most memory taken so far, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


CLAIMS = {
    "more": (header((1000, 1000, 1000)) + bytes(500), "claims 1,000,000,000 bytes, but 500 are there"),
    "much more": (header((2**40, 2**40, 2**40)) + bytes(500), "claims .* bytes, but 500 are there"),
    "negative": (header((-5, -100)) + bytes(499), "claims 500 bytes, but 499 are there"),
    "less": (header((10, 10)) + bytes(500), "claims 100 bytes, but 500 are there"),
    "a header of 4 GiB": (
        b"\x93NUMPY\x02\x00" + b"\xf0\xff\xff\xff" + bytes(2**20),
        "header takes 4,294,967,280 bytes",
    ),
    "objects": (header((3,), "|O") + bytes(24), "holds Python objects, which are never loaded"),
    "code": (b"\x93NUMPY\x01\x00\x10\x00__import__('os')", ""),
}


@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
@pytest.mark.parametrize("case", CLAIMS)
def test_a_header_that_does_not_fit_its_file_is_refused_before_memory_is_taken(tmp_path, memory, name, case):
    content, named = CLAIMS[case]
    source = written(tmp_path, name, content)
    with pytest.raises(ValueError, match=f"{name} is not a whole numpy file of numbers: .*{named}"):
        load_data(source)
    assert memory() < 2**23


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["data.npy", "data.npz"])
def test_both_versions_of_headers_are_read(tmp_path, name, version):
    source = written(tmp_path, name, header((4, 6, 5), version=version) + PIXELS.tobytes())
    assert np.array_equal(load_data(source).x[:, 0].numpy(), PIXELS)


def test_a_fortran_array_is_read_as_it_is(tmp_path):
    assert np.array_equal(load_data(npy(tmp_path, np.asfortranarray(PIXELS))).x[:, 0].numpy(), PIXELS)


def test_an_archive_takes_no_more_memory_than_is_allowed(tmp_path, memory):
    bomb = written(tmp_path, "data.npz", header((40, 1024, 1024)) + bytes(40 * 2**20))
    assert (tmp_path / "data.npz").stat().st_size < 2**16
    tracemalloc.reset_peak()
    named = r"takes 41,943,040 bytes, allowed are 1,000,000; .* set data.max_bytes = 41943040"
    with pytest.raises(ValueError, match=named):
        load_data(bomb, max_bytes=1_000_000)
    assert memory() < 2**20
    assert load_data(bomb, max_bytes=40 * 2**20).x.shape == (40, 1, 1024, 1024)


def test_four_gibibytes_are_allowed_by_default(tmp_path, memory):
    start = header((2**32 + 1, 1))
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", start)
        # The size in the directory at the end of the file, not the real one.
        archive.getinfo("x.npy").file_size = len(start) + 2**32 + 1
    with pytest.raises(ValueError, match="takes 4,294,967,297 bytes, allowed are 4,294,967,296"):
        load_data(str(tmp_path / "data.npz"))
    assert memory() < 2**23


def test_an_archive_that_is_not_compressed_needs_no_allowance(tmp_path):
    assert len(load_data(npz(tmp_path, x=PIXELS), max_bytes=1).x) == 4


def test_an_encrypted_archive_is_refused_by_its_path(tmp_path):
    source = npz(tmp_path, x=PIXELS)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1  # the flag of encryption
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.npz is not a whole numpy file of numbers: .*encrypted"):
        load_data(source)
