"""Files: replaced at once by whoever writes them, refused where a bit of them has changed, and locked."""

import ast
import json
import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from filelock import lock_descriptor
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_run import SHAPE, configured, trained
from torch import nn

from scoresde import files
from scoresde.checkpoint import MODEL, TRAINING, load_denoiser, load_training, save_training
from scoresde.files import (
    BEGUN,
    check_writable,
    hash_of,
    locked,
    read_tensors,
    write_atomically,
    write_tensors,
)
from scoresde.pretrained import FEATURES, FOLDERS, REFERENCE

ROOT = Path(__file__).parents[1]


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------- writing


def test_threads_that_write_one_path_never_leave_a_torn_file(tmp_path):
    """Each content is one digit, over and over: a mixture, or a part of it, would be seen."""
    path, size, reads, wrong = tmp_path / "file", 50_000, 0, []
    write_atomically(path, b"0" * size)

    def write(number):
        try:
            for _ in range(15):
                write_atomically(path, str(number).encode() * size)
        except OSError as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        content = path.read_bytes()
        reads += 1
        if len(content) != size or len(set(content)) != 1:
            wrong.append(content)
    for thread in threads:
        thread.join()
    assert not wrong
    assert reads > 10
    assert names_of(tmp_path) == ["file"]


def test_a_link_planted_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    victim, path = tmp_path / "victim", tmp_path / "folder" / "file"
    victim.write_bytes(b"precious")
    path.parent.mkdir()
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    (path.parent / f"{BEGUN}guessed").symlink_to(victim)
    files._tidy.cache_clear()
    with pytest.raises(OSError, match="File exists") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == str(path)
    assert victim.read_bytes() == b"precious"
    assert not path.exists()


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_bytes() == b"precious"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    names = ("left", "living", "fifo", "linked")
    left, living, fifo, linked = (tmp_path / f"{BEGUN}{name}" for name in names)
    (tmp_path / "kept").write_bytes(b"kept")
    left.write_bytes(b"half")
    os.mkfifo(fifo)  # to open it would wait for ever
    linked.symlink_to(tmp_path / "kept")
    with open(living, "xb") as file:
        lock_descriptor(file.fileno())
        write_atomically(tmp_path / "file", b"content")
    assert names_of(tmp_path) == sorted([living.name, fifo.name, linked.name, "file", "kept"])


def test_a_file_that_another_process_tidied_away_is_begun_anew(tmp_path, monkeypatch):
    """A process may see a file after it was made and before it was locked."""
    lock, taken = files.lock_descriptor, []

    def late(descriptor, **options):
        if not taken:
            (begun,) = tmp_path.glob(f"{BEGUN}*")
            taken.append(begun.unlink())
        return lock(descriptor, **options)

    monkeypatch.setattr(files, "lock_descriptor", late)
    write_atomically(tmp_path / "file", b"content")
    assert taken
    assert names_of(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_of_writing_names_the_file(tmp_path, monkeypatch, call):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomically(tmp_path / "file", b"content")
    assert caught.value.filename == str(tmp_path / "file")
    assert names_of(tmp_path) == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a device"])
def test_what_is_no_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "there")
    with pytest.raises(OSError, match=r"there is a folder or a device"):
        write_atomically(tmp_path / "there", b"content")
    assert names_of(tmp_path) == ["there"]
    assert not (tmp_path / "there").is_file()


# Calls that write a file where it stands. Pictures are drawn into memory first.
WRITES = {"write_text", "write_bytes", "save_file", "savez", "savez_compressed", "savetxt", "tofile", "dump"}


def test_every_file_is_written_by_one_function():
    """But for lines that benchmarks append, and a file of the kernel's."""
    found, looked = [], 0
    for path in sorted([*(ROOT / "scoresde").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                looked += 1
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                given = [ast.unparse(a).strip("'") for a in [*node.args, *(k.value for k in node.keywords)]]
                opened = name == "open" and any(len(text) < 4 and set(text) & set("wx") for text in given)
                pictured = name == "savefig" and "path" in given[0] and path.is_relative_to(ROOT / "scoresde")
                if name in WRITES or opened or pictured:
                    found.append(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    assert looked > 5_000
    assert found == [
        "benchmarks/stopwatch.py: (PROC / 'clear_refs').write_text('5')",
        "scoresde/files.py: open(folder / f'{BEGUN}{secrets.token_hex(8)}', 'xb')",
    ]


# ------------------------------------------------------------------------------------- the lock of a folder


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    folder = tmp_path / "a" / "run"
    with locked(folder):
        write_atomically(folder / "file", b"content")
        message = f"another run is writing to {folder}; .* name another"
        with pytest.raises(ValueError, match=message), locked(folder):
            raise AssertionError("the folder was held twice")
        with locked(tmp_path / "b"):
            pass
    assert names_of(folder) == ["file"]
    with locked(folder):
        pass
    with pytest.raises(KeyError), locked(folder):
        raise KeyError
    with locked(folder):
        pass
    assert names_of(folder) == ["file"]


def test_of_many_that_take_a_folder_at_once_one_has_it(tmp_path):
    held, most, had, refused = [], [], [], []

    def take():
        for _ in range(30):
            try:
                with locked(tmp_path):
                    held.append(1)
                    most.append(len(held))
                    had.append(1)
                    held.pop()
            except ValueError:
                refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(had) + len(refused) == 180
    assert had


# ------------------------------------------------------------------------------------- killed processes


def test_every_kill_leaves_whole_files_and_a_training_that_goes_on_with_its_bits():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "killing.py"), "2"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert (figures["writers"], figures["trainings"]) == (2, 2)


# ------------------------------------------------------------------------------------- damaged files


def byte(content, numbers):
    content[numbers.randrange(len(content))] ^= numbers.randrange(1, 256)


def block(content, numbers):
    begin = numbers.randrange(len(content))
    content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))


def cut(content, numbers):
    del content[numbers.randrange(len(content)) :]


DAMAGES = {"a byte": byte, "a block of zeros": block, "a cut": cut}


def damage(path, how, seed):
    """Change a file at random, and really; returns what it was."""
    before, numbers = path.read_bytes(), random.Random(seed)
    content = bytearray(before)
    while content == before:
        DAMAGES[how](content, numbers)
    path.write_bytes(bytes(content))
    return before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder after a step of training."""
    folder = tmp_path_factory.mktemp("run")
    save_training(folder, configured(), trained(configured(), 1)[0], SHAPE)
    return folder


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [MODEL, TRAINING])
def test_a_file_that_was_damaged_at_random_is_refused_by_name(run, name, how):
    path = run / name
    for seed in range(8):
        before = damage(path, how, seed)
        try:
            with pytest.raises(ValueError, match=f"checkpoint {path} ") as caught:
                load_denoiser(run) if name == MODEL else load_training(run, configured())
            assert "\n" not in str(caught.value)
        finally:
            path.write_bytes(before)
    load_denoiser(run) if name == MODEL else load_training(run, configured())


@pytest.mark.parametrize("part", ["values", "names", "header", "hash", "format"])
def test_a_file_whose_content_changed_is_refused_by_its_hash(tmp_path, part):
    """Files that are whole, as another program would write them."""
    path, tensors, header = tmp_path / "file", {"a": torch.ones(2), "b": torch.zeros(2)}, {"step": 1}
    write_tensors(path, tensors, **header)
    with safe_open(path, "pt") as file:
        texts = dict(file.metadata())
    if part == "values":
        tensors["a"][0] = torch.nextafter(tensors["a"][0], torch.tensor(2.0))
    elif part == "names":
        tensors["a"], tensors["b"] = tensors["b"], tensors["a"]
    elif part == "header":
        texts["step"] = "2"
    else:
        texts[part[:-1]] = texts.pop(part)  # as a damaged byte would leave the key
    save_file(tensors, path, texts)
    with pytest.raises(ValueError, match="was changed since it was written: its hash does not fit"):
        read_tensors(path)


def test_the_hash_sees_names_types_shapes_and_bits():
    x = torch.arange(4.0)
    others = [
        {"y": x},
        {"x": x.double()},
        {"x": x.view(torch.int32)},
        {"x": x.reshape(2, 2)},
        {"x": -x * 0},
        {"x": x * 0},
        {"x": x, "y": x},
        {"x": torch.tensor(0.0)},
        {"x": torch.zeros(0)},
        {},
    ]
    assert len({hash_of(tensors) for tensors in ({"x": x}, *others)}) == 11
    assert hash_of({"x": x.reshape(2, 2).T}) == hash_of({"x": x.reshape(2, 2).T.contiguous()})
    assert hash_of({"x": x, "y": x}) == hash_of({"y": x, "x": x})
    assert hash_of({"x": x}) == "087ccf2f649f74d571dc71bc7d743b03e5a3d9c8f548792563a3b74122906596"


STRANGE = {
    "an unknown type": ({"dtype": "XX", "shape": [8]}, "1"),
    "a type of half a byte": ({"dtype": "F4", "shape": [16]}, "1"),
    "a shape beyond": ({"dtype": "F32", "shape": [2**62, 2**62]}, "1"),
    "a shape of no numbers": ({"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}, "1"),
    "a deep header": ({"dtype": "F32", "shape": [2]}, "[" * 100_000),
    "a long number": ({"dtype": "F32", "shape": [2]}, "1" * 5_000),
}


@pytest.mark.parametrize(("tensor", "text"), STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_header_is_refused_by_the_name_of_the_file(tmp_path, tensor, text):
    tensor = {"data_offsets": [0, 8]} | tensor
    header = json.dumps({"x": tensor, "__metadata__": {"step": text}}).encode()
    content = bytes(tensor["data_offsets"][1])
    (tmp_path / "file").write_bytes(len(header).to_bytes(8, "little") + header + content)
    with pytest.raises(ValueError, match="file is not a whole safetensors file of scoresde: "):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_in_files_without_a_hash(tmp_path, number):
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, number])}, tmp_path / "file", {"step": "1"})
    with pytest.raises(ValueError, match="file is damaged: bad not finite"):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("name", [MODEL, FEATURES, REFERENCE])
def test_what_ships_has_no_hash_and_loads_with_its_bits(name):
    path = FOLDERS["mnist"] / name
    expected = load_file(path)
    tensors, header = read_tensors(path)
    with safe_open(path, "pt") as file:
        assert "hash" not in file.metadata()
        assert file.metadata().keys() == header.keys()
    assert hash_of(tensors) == hash_of(expected)
    if name == MODEL:
        trained = load_denoiser(path)
        assert trained.labels is None
        assert hash_of(trained.denoiser.net.state_dict()) == hash_of(expected)


# ------------------------------------------------------------------------------------- what can be written


class Net(nn.Module):
    """Two layers of one weight, and a buffer."""

    def __init__(self, buffer=None):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.register_buffer("mask", torch.zeros(2) if buffer is None else buffer)


class Extra(Net):
    def get_extra_state(self):
        return {"count": 3}

    def set_extra_state(self, state):
        pass


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
TYPES = [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool, torch.int64, *FLOAT8]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_what_can_be_written_comes_back_to_the_bit(tmp_path, dtype):
    net = Net(torch.tensor([0.0, 1.0]).to(dtype))
    check_writable(net.state_dict())
    write_tensors(tmp_path / "file", net.state_dict())
    tensors, _ = read_tensors(tmp_path / "file")
    assert hash_of(tensors) == hash_of(net.state_dict())
    assert tensors["mask"].dtype == dtype
    again = Net(torch.zeros(2).to(dtype))
    again.load_state_dict(tensors)
    assert again.one.weight is again.two.weight
    assert hash_of(again.state_dict()) == hash_of(net.state_dict())


def test_tensors_that_overlap_are_written_each():
    """Tied weights are, and views of one memory."""
    whole = torch.arange(6.0)
    check_writable({"whole": whole, "part": whole[2:], "odd": whole[1::2]})


@pytest.mark.parametrize(
    ("net", "named"),
    [
        (Net(torch.tensor([0.0, -torch.inf])), "mask holds numbers that are not finite.*persistent=False"),
        (Net(torch.tensor([torch.nan, 0.0])), "mask holds numbers that are not finite"),
        (Net(torch.tensor([torch.nan, 0.0]).to(FLOAT8[0])), "mask holds numbers that are not finite"),
        (Net(torch.zeros(2, dtype=torch.complex128)), "mask is of torch.complex128, which no checkpoint"),
        (Net(torch.zeros(2, device="meta")), "mask must be a dense tensor with numbers"),
        (Net(torch.eye(2).to_sparse()), "mask must be a dense tensor with numbers"),
        (Extra(), "_extra_state is no tensor but dict"),
    ],
    ids=["infinite", "nan", "nan of float8", "complex128", "meta", "sparse", "extra state"],
)
def test_what_cannot_be_written_is_named(net, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        check_writable(net.state_dict())
