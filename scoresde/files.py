"""Atomic writing of files, a lock for a folder, and files of tensors with a JSON header."""

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import torch
from filelock import FileLock, Timeout, lock_descriptor
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

BEGUN = ".scoresde-"  # prefix of the names of unfinished files
LOCK = ".lock"
FORMAT = 2  # of files of tensors: 2 has a hash, 1 had none


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole: after a crash, the old or the new content is there, complete.

    Several threads and processes may write one path; the last one wins. The file keeps its mode. A symbolic
    link is replaced, not followed. Unfinished files of killed writers in the folder are removed.

    Raises:
        OSError: the file cannot be written; the message names ``path``.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder or a device, and cannot be replaced by a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent.absolute())
        with _begin(path.parent) as file:
            try:
                with suppress(FileNotFoundError):
                    os.chmod(file.name, stat.S_IMODE(path.stat().st_mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if os.name == "nt":  # Windows cannot move an open file
                    file.close()
                os.replace(file.name, path)
            except BaseException:
                file.close()
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _begin(folder: Path) -> BinaryIO:
    """A new file with a random name, locked until its writer ends."""
    while True:
        file = open(folder / f"{BEGUN}{secrets.token_hex(8)}", "xb")  # noqa: SIM115 - the caller closes it
        with suppress(OSError):  # a file system without locks
            lock_descriptor(file.fileno())
        if os.path.exists(file.name):
            return file
        file.close()  # another process removed the file before it was locked


@lru_cache(maxsize=64)  # once per process and folder: a folder may hold many files
def _tidy(folder: Path) -> None:
    """Remove unfinished files without a lock: their writers were killed."""
    for left in folder.glob(f"{BEGUN}*"):
        with suppress(OSError):
            if stat.S_ISREG(left.lstat().st_mode):
                with open(left, "rb") as file:
                    if lock_descriptor(file.fileno(), blocking=False):
                        left.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for one run, so that the files of two runs do not mix. The folder is made if needed.

    The lock ends with the process, also if the process is killed.

    Raises:
        ValueError: another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another run is writing to {folder}; wait for its end, or name another") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows cannot remove an open file
            os.unlink(lock.lock_file)
        lock.release()


def hash_of(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> str:
    """SHA-256 of the names, types, shapes and bits of tensors and of a header of texts; 64 hex digits."""
    digest = hashlib.sha256(json.dumps(header or {}, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_writable(tensors: Mapping[str, object]) -> None:
    """Check that tensors can be written to a file and read back. Tensors may share memory.

    Raises:
        ValueError: a value is not a dense tensor, is not finite, or has a type that the file format lacks;
            the message names it.
    """
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} must be a tensor for a checkpoint to hold it, got {type(value).__name__}"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{name} must be a dense tensor with numbers for a checkpoint to hold it")
        try:
            load(save({"one": torch.zeros(1, dtype=torch.uint8).expand(8).contiguous().view(value.dtype)}))
        except (KeyError, RuntimeError):
            raise ValueError(f"{name} has the type {value.dtype}, which a checkpoint cannot hold") from None
        if not _finite(value):
            raise ValueError(
                f"{name} holds numbers that are not finite, which a checkpoint cannot hold; if it is a "
                f"constant, register it with persistent=False, or use a large finite number"
            )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **header: Any) -> None:
    """Write tensors, the values of ``header`` as JSON, and a hash of both.

    Raises:
        FloatingPointError: a tensor is not finite; then nothing is written.
    """
    bad = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if bad:
        raise FloatingPointError(f"{path} was not written: {', '.join(bad[:3])} not finite")
    own: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        own[name] = tensor.detach().cpu().contiguous()
        place = own[name].untyped_storage().data_ptr()
        if place in places:  # the file format cannot store shared memory
            own[name] = own[name].clone()
        places.add(place)
    texts = {key: json.dumps(value) for key, value in (header | {"format": FORMAT}).items()}
    texts["hash"] = json.dumps(hash_of(own, texts))
    write_atomically(path, save(own, texts))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file, without its hash.

    A file of format 1 has no hash, and is read without this check.

    Raises:
        ValueError: the file is missing, incomplete, changed, not finite, or of another kind, as a pickle.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            header = {key: json.loads(value) for key, value in texts.items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        bad = [name for name, tensor in tensors.items() if not _finite(tensor)]
    except (SafetensorError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise ValueError(f"checkpoint {path} is not a whole safetensors file of scoresde: {error}") from None
    written = texts.pop("hash", None)
    # "format" is checked, too: a file of format 2 with a damaged key "hash" is not a file of format 1.
    if (written or "format" in texts) and written != json.dumps(hash_of(tensors, texts)):
        raise ValueError(f"checkpoint {path} was changed after it was written: its hash is wrong")
    if bad:
        raise ValueError(f"checkpoint {path} is damaged: {', '.join(bad[:3])} not finite")
    return tensors, {key: value for key, value in header.items() if key not in ("hash", "format")}


def _finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return bool(torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all())
