"""What a tuning keeps in a folder, to go on from: its teacher, and what it has found out so far."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import read_tensors, write_atomically, write_tensors
from .descent import Descent
from .strict import parsed
from .task import Task
from .teacher import MOST_CALLS, Certificate


@dataclass(frozen=True, eq=False)
class Teacher:
    """Where all noises end, by ``calls`` calls; by twice as many, those of the fit, ``difference`` away."""

    target: Tensor
    calls: int
    difference: float

    def save(self, path: Path, key: str) -> None:
        """Replace the file as a whole."""
        header = {"key": key, "calls": self.calls, "difference": self.difference}
        write_tensors(path, {"target": self.target}, **header)

    @classmethod
    def load(cls, path: Path, key: str, shape: tuple[int, ...]) -> "Teacher":
        """What :meth:`save` wrote; ValueError if it is of another tuning, damaged, or of another shape."""
        try:
            tensors, header = read_tensors(path)
        except (OSError, ValueError, RecursionError) as error:
            raise _damaged(path, str(error)) from None
        _check_key(path, header.get("key"), key)
        target, calls, difference = tensors.get("target"), header.get("calls"), header.get("difference")
        if target is None or target.shape != shape or not target.is_floating_point():
            raise _damaged(path, f"target must be a tensor of floats of shape {shape}")
        if type(calls) is not int or not 1 <= calls <= MOST_CALLS:
            raise _damaged(path, f"calls must be an integer from 1 to {MOST_CALLS}, got {calls!r}")
        if type(difference) is not float or not 0 <= difference < math.inf:
            raise _damaged(path, f"difference must be a finite number, at least 0, got {difference!r}")
        return cls(target, calls, difference)


@dataclass
class State:
    """What a tuning has found out so far, beside its teacher; all that going on needs."""

    certificate: Certificate
    stock: list[str]
    starts: list[str]
    heats: list[dict[str, Descent]]
    calls: int = 0
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        """Replace the file as a whole."""
        content = {"key": key, "hash": self.hash} | asdict(self)
        write_atomically(path, json.dumps(content).encode())

    @property
    def hash(self) -> str:
        """Of all numbers and names, to the last bit."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path, key: str) -> "State":
        """What :meth:`save` wrote, to the same bits; ValueError if it is of another tuning, or damaged."""
        try:
            content = path.read_bytes()
            header, state = parsed(content, dict[str, Any]), parsed(content, cls)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from None
        _check_key(path, header.get("key"), key)
        if header.get("hash") != state.hash:
            raise _damaged(path, f"its hash must be that of its content, {state.hash[:16]}...")
        return state


@dataclass(frozen=True, eq=False)
class Folder:
    """Where the teacher and the state of a task are kept, if anywhere."""

    path: Path | None
    task: Task

    @property
    def _files(self) -> tuple[Path, Path]:
        assert self.path is not None
        return self.path / "teacher.safetensors", self.path / f"state-{self.task.nfe}.json"

    def teacher(self) -> Teacher | None:
        """The one that is there."""
        if self.path is None or not self._files[0].exists():
            return None
        shape = (sum(self.task.sizes), *self.task.shape)
        return Teacher.load(self._files[0], self.task.teacher_key, shape)

    def state(self) -> State | None:
        """The one that is there."""
        there = self.path is not None and self._files[1].exists()
        return State.load(self._files[1], self.task.key) if there else None

    def keep(self, part: Teacher | State) -> None:
        """Write it."""
        if self.path is not None and isinstance(part, Teacher):
            part.save(self._files[0], self.task.teacher_key)
        elif self.path is not None:
            part.save(self._files[1], self.task.key)


def _check_key(path: Path, found: object, key: str) -> None:
    if found != key:
        raise ValueError(f"{path} is of another tuning; remove it, or name another folder")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is damaged: {what}; remove it, and what it held is made again")
