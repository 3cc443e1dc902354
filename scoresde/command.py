"""How every command of the project ends: in one line, and never in a traceback."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What bad input, a bad file, too little memory or a full disk raises.
EXPECTED = (ValueError, TypeError, FloatingPointError, OverflowError, RecursionError, MemoryError, OSError)

# The extra of this package that brings a module which a plain installation lacks.
EXTRAS = {
    "datasets": "datasets",
    "matplotlib": "bench",
    "rich": "bench",
    "sklearn": "bench",
    "torch_fidelity": "inception",
}

# In the words of torch, whose allocators raise RuntimeError.
NO_MEMORY = (
    *("allocate memory", "out of memory", "not enough memory", "storage size calculation overflowed"),
    *("std::bad_alloc", "cannot be represented as a symint"),
)

PROGRAMS = ("scoresde", "scoresde.exe")  # what an installation calls the command
BENCHMARKS = Path(__file__).absolute().parents[1] / "benchmarks"  # of a copy of the sources: programs, too

LONGEST = 1000  # characters of a message


def guarded(program: str, run: Callable[[], object]) -> int:
    """Run a command; returns the exit status.

    0 when it ends; 2 after bad input, 130 after Ctrl-C and 1 after an unexpected error, each with
    one line on stderr. With SCORESDE_TRACEBACK=1 in the environment, exceptions are raised as they are.
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
    """Text with every control character, and what no terminal can show, written as its code."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def interrupt_noted() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C in place of raising it; the function that is yielded says whether it came.

    A second Ctrl-C raises KeyboardInterrupt.

    For work that is to stop between two steps. Outside of the main thread, where no signal arrives, and where
    the signal has a handler already, nothing is changed.
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
    """Where this process is a command of the project, have Ctrl-C end it in one line until it is guarded.

    For the seconds in which torch and the rest are imported. The process ends within the handler of the
    signal: an exception, libraries may catch while they are imported.
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


_imports: list[Callable[[int, Any], None]] = []  # the handler of Ctrl-C while things are imported


def _program() -> str | None:
    """The name of the command that this process is; None for any other process."""
    file = Path(sys.argv[0] if sys.argv else "")
    if file.name in PROGRAMS or "scoresde.cli" in sys.orig_argv:
        return "scoresde"
    return file.name if file.absolute().parent == BENCHMARKS else None


@contextmanager
def _interrupts_raised() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt, if until now it ended the process."""
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
    """Which extra to install for a module that is not there."""
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
