"""How every benchmark program ends, and where it may write.

Programs import it as a whole, which sorts it before numpy and torch: from there on, Ctrl-C is one line.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from scoresde.command import guarded

# A folder of such a name is a slip of the keyboard.
NAMES_OF_FILES = {".json", ".jsonl", ".csv", ".txt", ".md", ".png", ".npz", ".safetensors"}


def command(program: str, run: Callable[[], int]) -> int:
    """Run a program; returns the exit status that ``run`` returns, or that of ``guarded`` if it raises."""
    status = 0

    def inner() -> None:
        nonlocal status
        status = run()

    return guarded(program, inner) or status


def lines_file(out: Path, name: str) -> Path:
    """Where JSON lines go: ``out`` itself if it is named .jsonl, and else the file ``name`` in the folder.

    Raises:
        ValueError: ``out`` is named as a file of another kind.
        OSError: it cannot be written to.
    """
    if out.suffix.lower() in NAMES_OF_FILES - {".jsonl"} and not out.is_dir():
        raise ValueError(f"--out must be a folder or a file named .jsonl, got {out}")
    # A folder that is there, whatever its name, is a folder.
    file = out if out.suffix.lower() == ".jsonl" and not out.is_dir() else out / name
    check_writable(file)
    return file


def check_writable(file: Path) -> None:
    """OSError, before any work is done, if a file cannot be made, replaced or added to."""
    if file.is_dir():
        raise IsADirectoryError(f"--out must be a file, got the folder {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=file.parent):
        pass
    if file.exists():
        with open(file, "ab"):
            pass
