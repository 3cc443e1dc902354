"""How every command of the project ends: in one line, and never in a traceback."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

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
NO_MEMORY = ("allocate memory", "out of memory", "not enough memory", "storage size calculation overflowed")

PROGRAMS = ("scoresde", "scoresde.exe")  # what an installation calls the command

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
        with _warnings_in_one_line(program):
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
    """Where this process is the ``scoresde`` command, have Ctrl-C end it in one line from now on.

    For the seconds in which torch and the rest are imported, before anything can be guarded.
    """
    if os.path.basename(sys.argv[0]) not in PROGRAMS and "scoresde.cli" not in sys.orig_argv:
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt) or os.environ.get("SCORESDE_TRACEBACK") == "1":
            sys.__excepthook__(kind, error, trace)
            return
        status = _end("scoresde", 130, "interrupted")
        sys.stderr.flush()
        os._exit(status)  # no file is open yet

    sys.excepthook = hook


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
