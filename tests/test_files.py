"""Files are replaced as a whole, also if the writer is killed; and the lock of a folder."""

import ast
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import lock_descriptor

from scoresde import files
from scoresde.files import BEGUN, locked, write_atomically

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
    with pytest.raises(OSError, match="File exists") as caught:
        write_atomically(path, b"new")
    assert caught.value.filename == str(path)
    assert victim.read_bytes() == b"precious"
    assert not path.exists()


def test_a_link_is_replaced_and_its_target_stays(tmp_path):
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


def test_unfinished_files_of_killed_writers_are_removed_and_nothing_else(tmp_path):
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
def test_only_files_are_replaced(tmp_path, make):
    make(tmp_path / "there")
    with pytest.raises(OSError, match=r"there is a folder or a device"):
        write_atomically(tmp_path / "there", b"content")
    assert names_of(tmp_path) == ["there"]
    assert not (tmp_path / "there").is_file()


# Calls that write a file where it stands. Pictures are drawn into memory first.
WRITES = {"write_text", "write_bytes", "save_file", "savez", "savez_compressed", "savetxt", "tofile", "dump"}


def test_every_file_is_written_by_one_function():
    """But for lines that benchmarks append, a file of the kernel's, and arrays in memory."""
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
        "scoresde/cli/edit.py: np.savez(file, **{name: values.numpy() for name, values in columns.items()})",
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


@pytest.mark.slow
def test_every_kill_leaves_whole_files_and_a_training_that_goes_on_with_its_bits():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "killing.py"), "2"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)
    assert (figures["writers"], figures["trainings"]) == (2, 2)
