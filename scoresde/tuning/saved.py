"""The files from which an interrupted tuning resumes: the targets of its teacher, and its state."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..files import read_tensors, write_atomically, write_tensors
from .levenberg_marquardt import LMState
from .strict_json import parse_json
from .task import Task
from .teacher import MOST_CALLS, TeacherCheck


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """The ends of all noise samples of a tuning.

    Args:
        target: the ends, ``(M, ...)``.
        calls: network calls of the teacher.
        difference: the root mean square difference, on the samples of the fit, from twice as many calls.
    """

    target: Tensor
    calls: int
    difference: float

    def save(self, path: Path, key: str) -> None:
        """Write the file, or replace it as a whole."""
        header = {"key": key, "calls": self.calls, "difference": self.difference}
        write_tensors(path, {"target": self.target}, **header)

    @classmethod
    def load(cls, path: Path, key: str, shape: tuple[int, ...]) -> "TeacherTargets":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is damaged, or of another tuning or shape.
        """
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
class TuningState:
    """The results of a tuning so far, apart from the teacher's targets.

    Args:
        teacher: the check of the teacher.
        stock: names of the stock candidates that may be the best, best first.
        starts: names of the candidates that the fit starts from.
        rounds: for each round of the fit, the state of each candidate.
        calls: network evaluations so far.
        seconds: time so far.
    """

    teacher: TeacherCheck
    stock: list[str]
    starts: list[str]
    rounds: list[dict[str, LMState]]
    calls: int = 0
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        """Write the file, or replace it as a whole."""
        content = {"key": key, "hash": self.hash} | asdict(self)
        write_atomically(path, json.dumps(content).encode())

    @property
    def hash(self) -> str:
        """The hash of all numbers, to the last bit, and of all names."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path, key: str) -> "TuningState":
        """Read what :meth:`save` wrote, to the same bits.

        Raises:
            ValueError: the file is damaged, or of another tuning.
        """
        try:
            content = path.read_bytes()
            header, state = parse_json(content, dict[str, Any]), parse_json(content, cls)
        except (OSError, ValueError) as error:
            raise _damaged(path, str(error)) from None
        _check_key(path, header.get("key"), key)
        if header.get("hash") != state.hash:
            raise _damaged(path, f"its hash must be that of its content, {state.hash[:16]}...")
        return state


@dataclass(frozen=True, eq=False)
class StateFolder:
    """The saved files of a task; without a path, nothing is saved."""

    path: Path | None
    task: Task

    @property
    def _files(self) -> tuple[Path, Path]:
        assert self.path is not None
        return self.path / "teacher.safetensors", self.path / f"state-{self.task.nfe}.json"

    def teacher(self) -> TeacherTargets | None:
        """The saved targets, if there are any."""
        if self.path is None or not self._files[0].exists():
            return None
        shape = (sum(self.task.settings.sizes), *self.task.shape)
        return TeacherTargets.load(self._files[0], self.task.teacher_key, shape)

    def state(self) -> TuningState | None:
        """The saved state, if there is one."""
        if self.path is None or not self._files[1].exists():
            return None
        return TuningState.load(self._files[1], self.task.key)

    def save(self, part: TeacherTargets | TuningState) -> None:
        """Save the targets or the state."""
        if self.path is not None and isinstance(part, TeacherTargets):
            part.save(self._files[0], self.task.teacher_key)
        elif self.path is not None:
            part.save(self._files[1], self.task.key)


def _check_key(path: Path, found: object, key: str) -> None:
    if found != key:
        raise ValueError(f"{path} is of another tuning; remove it, or name another folder")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(f"{path} is damaged: {what}; remove it, and its content is computed again")
