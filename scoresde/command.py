"""The end of every command: at most one line on stderr, and no traceback."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The errors of bad input, bad files, too little memory and full disks.
EXPECTED = (ValueError, TypeError, FloatingPointError, OverflowError, RecursionError, MemoryError, OSError)

# The extra of this package that installs a module, for modules that a plain installation does not have.
EXTRAS = {
    "datasets": "datasets",
    "matplotlib": "bench",
    "rich": "bench",
    "sklearn": "bench",
    "torch_fidelity": "inception",
}

# The messages of torch, whose allocators raise RuntimeError.
NO_MEMORY = (
    *("allocate memory", "out of memory", "not enough memory", "storage size calculation overflowed"),
    *("std::bad_alloc", "cannot be represented as a symint"),
)

PROGRAMS = ("scoresde", "scoresde.exe")  # names of the installed command
BENCHMARKS = Path(__file__).absolute().parents[1] / "benchmarks"  # more programs, in a copy of the sources

LONGEST = 1000  # characters of a message


def guarded(program: str, run: Callable[[], object]) -> int:
    """Run a command. Returns the exit status.

    The status is 0 after success, 2 after bad input, 130 after Ctrl-C, and 1 after an unexpected error. Each
    failure prints one line on stderr. With SCORESDE_TRACEBACK=1 in the environment, exceptions are raised.

    Args:
        program: the name of the command, which begins the line.
        run: the work.
    """
    if os.environ.get("SCORESDE_TRACEBACK") == "1":
        run()
        return 0
    try:
        with _interrupts_raised(), _warnings_in_one_line(program):
            run()
    except KeyboardInterrupt as interrupt:
        return _end(program, 130, str(interrupt) or "interrupted")
    except ModuleNotFoundError as error:
        return _end(program, 2, _missing(error))
    except EXPECTED as error:
        return _end(program, 2, str(error) or type(error).__name__)
    except Exception as error:
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY):
            return _end(program, 2, f"not enough memory: {error}")
        hint = "set SCORESDE_TRACEBACK=1 to see where"
        return _end(program, 1, f"unexpected {type(error).__name__}: {error} ({hint})")
    return 0


def printable(text: str) -> str:
    """The text with each character that a terminal cannot show as its code; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C instead of raising it, for work that stops between two steps.

    The yielded function returns True after a Ctrl-C. A second Ctrl-C raises KeyboardInterrupt. Nothing
    changes outside the main thread, which alone receives signals, or if the signal has a handler already.
    """
    noted = False
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: object) -> None:
        nonlocal noted
        noted = True
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: noted
    finally:
        signal.signal(signal.SIGINT, usual)


def end_imports_in_one_line() -> None:
    """If this process is a command of the project, let Ctrl-C end it in one line until :func:`guarded` runs.

    This covers the seconds in which torch is imported. The handler of the signal ends the process itself:
    libraries may catch exceptions while they are imported.
    """
    name = _program()
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    main = threading.current_thread() is threading.main_thread()
    if name is None or not usual or not main or os.environ.get("SCORESDE_TRACEBACK") == "1":
        return

    def end(number: int, frame: object) -> None:
        os.write(2, f"{name}: interrupted\n".encode())
        os._exit(130)  # no file is open yet

    signal.signal(signal.SIGINT, end)
    _imports.append(end)


_imports: list[Callable[[int, Any], None]] = []  # the handler of Ctrl-C during imports


def _program() -> str | None:
    """The name of the command that this process runs; None for any other process."""
    file = Path(sys.argv[0] if sys.argv else "")
    if file.name in PROGRAMS or "scoresde.cli" in sys.orig_argv:
        return "scoresde"
    return file.name if file.absolute().parent == BENCHMARKS else None


@contextmanager
def _interrupts_raised() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, where :func:`end_imports_in_one_line` let it end the process."""
    before = signal.getsignal(signal.SIGINT)
    if before not in _imports or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _warnings_in_one_line(program: str) -> Iterator[None]:
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: _line(program, f"warning: {message}") + "\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _missing(error: ModuleNotFoundError) -> str:
    """The error of a missing module, with the extra that installs it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return f"{error}: pip install 'scoresde[{extra}]'" if extra else str(error)


def _end(program: str, status: int, message: str) -> int:
    print(_line(program, message), file=sys.stderr)
    return status


def _line(program: str, message: str) -> str:
    message = printable(" ".join(message.split()))
    if len(message) > LONGEST:
        message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
    return f"{program}: {message}"
