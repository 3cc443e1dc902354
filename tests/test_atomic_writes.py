"""Files are replaced as a whole or not at all, and tensors come back to the bit.

The moments between two calls of the operating system cannot be reached from outside: these tests replace
``os.fsync`` and ``os.replace``, the calls that end a write, and nothing of the library.
"""

import os

import pytest
import torch

from scoresde.files import read_tensors, write_atomically, write_tensors


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_written_and_the_old_file_stays(tmp_path, bad):
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"good": torch.ones(3)}, step=1)
    before = files_of(tmp_path)
    tensors = {"good": torch.zeros(3), "bad": torch.tensor([1.0, bad])}
    with pytest.raises(FloatingPointError, match=r"file.safetensors was not written: bad not finite"):
        write_tensors(path, tensors, step=2)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"good": torch.ones(3)}, step=1)
    before = files_of(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"good": torch.zeros(3)}, step=2)
    monkeypatch.undo()
    assert files_of(tmp_path) == before
    write_atomically(path, b"new")
    assert files_of(tmp_path) == {"file.safetensors": b"new"}


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    seen = []

    def look(*_):
        seen.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", look)  # when all of the new content is written
    write_atomically(path, b"new")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_a_folder_is_made_for_a_file(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


def test_tensors_and_header_come_back_to_the_bit_in_every_type(tmp_path):
    tensors = {
        "single": torch.randn(3, 2),
        "double": torch.randn(2, dtype=torch.float64),
        "low": torch.randn(2).bfloat16(),
        "count": torch.tensor(7),
        "channels last": torch.randn(1, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "gradient": torch.ones(2, requires_grad=True),
    }
    header = {"step": 3, "name": 'quoted "word"', "list": [1.5, None], "nested": {"a": "é"}}
    write_tensors(tmp_path / "file", tensors, **header)
    back, again = read_tensors(tmp_path / "file")
    assert again == header
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
