"""Files of JSON lines, one record a line, that survive a full disk; and the fields of a line of run.py."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from command import check_writable
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Record = dict[str, Any]

# A folder with such a name is a typing error.
NAMES_OF_FILES = {".json", ".jsonl", ".csv", ".txt", ".md", ".png", ".npz", ".safetensors"}

# Figures are comparable only if all of these agree.
SAME = (
    *("problem", "fd_features", "sde", "dtype", "seed", "checkpoint", "converged_nfe", "to_clean"),
    "n_samples",
)
# Records on one curve agree in these.
CURVE = ("solver", "spacing", "device_name", "compiled", "batch_size")


def lines_file(out: Path, name: str) -> Path:
    """The file for JSON lines: ``out`` itself if its name ends in .jsonl, else the file ``name`` in it.

    A folder that exists stays a folder, whatever its name.

    Raises:
        ValueError: ``out`` has the name of a file of another kind.
        OSError: the file cannot be written.
    """
    if out.suffix.lower() in NAMES_OF_FILES - {".jsonl"} and not out.is_dir():
        raise ValueError(f"--out must be a folder or a file named .jsonl, got {out}")
    file = out if out.suffix.lower() == ".jsonl" and not out.is_dir() else out / name
    check_writable(file)
    return file


def append(path: Path, record: Record) -> None:
    """Add a line to a file, also below a line that was cut by a full disk; OSError names the file."""
    line = json.dumps(record).encode() + b"\n"
    try:
        with open(path, "a+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            while line:
                line = line[file.write(line) :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def on_stderr(line: str) -> None:
    """Print one line for the user."""
    print(line, file=sys.stderr)


def read_lines(path: Path, warn: Callable[[str], object] = on_stderr) -> Iterator[tuple[int, Record]]:
    """The whole lines of a file, with their numbers from 1; ``warn`` receives a message for others."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            yield number, record
        else:
            warn(f"{path}, line {number}: skipped, because it is not a whole JSON object")


Finite = Annotated[float, Field(allow_inf_nan=False)]
Distance = Annotated[Finite, Field(ge=0)]
Amount = Annotated[Finite, Field(gt=0)]
Whole = Annotated[int, Field(gt=0)]


class Line(BaseModel):
    """The fields of run.py's lines that tables and pictures use; a line may have more."""

    model_config = ConfigDict(strict=True, extra="ignore")
    solver: str
    sde: str
    spacing: str
    to_clean: bool
    problem: str
    nfe_requested: Whole
    nfe: Amount
    n_samples: Whole
    batch_size: Whole
    fd: Distance
    fd_features: str
    fd_reference: Distance
    fd_converged: Distance
    fd_held_out: Distance | None
    held_out_count: Whole | None
    rmse_to_converged: Distance | None
    converged_nfe: Whole
    seconds: Amount
    seconds_network: Distance
    seconds_per_1k_samples: Amount
    peak_memory_mb: Distance
    device_name: str
    dtype: str
    compiled: bool
    seed: int
    checkpoint: str
    versions: dict[str, str]


def read_runs(path: Path, warn: Callable[[str], object] = on_stderr) -> list[Record]:
    """The lines of run.py in a file; ``warn`` receives a message for each line that cannot be read."""
    found = []
    for number, record in read_lines(path, warn):
        try:
            Line.model_validate(record)
        except ValidationError as error:
            first = error.errors()[0]
            wrong = ".".join(map(str, first["loc"]))
            warn(f"{path}, line {number}: skipped, because it is no line of run.py ({wrong}: {first['msg']})")
        else:
            found.append(record)
    return found


def latest(records: Iterable[Record]) -> list[Record]:
    """The last record of each run, in the place of its first: a repeated run has several."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in records:
        run = tuple(record.get(name) for name in (*SAME, *CURVE, "nfe_requested"))
        found[run] = record
    return list(found.values())


def groups(records: Iterable[Record]) -> list[tuple[tuple[Any, ...], list[Record]]]:
    """Groups of comparable records: each group fits one table. The key holds the values of SAME."""

    def key(record: Record) -> tuple[Any, ...]:
        return tuple(record.get(name) for name in SAME)

    return [(k, list(group)) for k, group in groupby(sorted(records, key=lambda r: repr(key(r))), key)]


def curves(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the name of their curve: the solver, and what differs between the curves."""
    parts: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        parts.setdefault(tuple(record.get(name) for name in CURVE), []).append(record)
    several = [len({key[i] for key in parts}) > 1 for i in range(len(CURVE))]
    named = {}
    for (solver, *key), group in parts.items():
        varying = zip(CURVE[1:], key, several[1:], strict=True)
        marks = [_mark(name, value) for name, value, varies in varying if varies]
        named[f"{solver}" + (f" ({', '.join(marks)})" if marks else "")] = group
    return named


def _mark(name: str, value: Any) -> str:
    return {"compiled": "compiled" if value else "as it is", "batch_size": f"batches of {value}"}.get(
        name, str(value)
    )


def calls_of(record: Mapping[str, Any]) -> str:
    """The calls that a run made, for tables; with the budget, where this is another number."""
    made, asked = record["nfe"], record["nfe_requested"]
    return f"{made:g}" if made == asked else f"{made:g} of {asked}"


def kept_budget(record: Mapping[str, Any]) -> bool:
    """Did the run make no more calls than its budget? A solver with a tolerance may make more."""
    return bool(record["nfe"] <= record["nfe_requested"])
