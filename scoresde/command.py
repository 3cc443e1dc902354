"""How every command of the project ends: in one line, and never in a traceback."""

import os
import sys
from collections.abc import Callable

# What bad input, a bad file, too little memory or a full disk raises.
EXPECTED = (ValueError, TypeError, FloatingPointError, OverflowError, RecursionError, MemoryError, OSError)


def guarded(program: str, run: Callable[[], object]) -> int:
    """Run a command; returns the exit status.

    0 when it ends; 2 after bad input, 130 after Ctrl-C and 1 after an unexpected error, each with
    one line on stderr. With SCORESDE_TRACEBACK=1 in the environment, exceptions are raised as they are.
    """
    if os.environ.get("SCORESDE_TRACEBACK") == "1":
        run()
        return 0
    try:
        run()
    except KeyboardInterrupt as interrupt:
        return _end(program, 130, str(interrupt) or "interrupted")
    except EXPECTED as error:
        return _end(program, 2, str(error) or type(error).__name__)
    except Exception as error:
        hint = "set SCORESDE_TRACEBACK=1 to see where"
        return _end(program, 1, f"unexpected {type(error).__name__}: {error} ({hint})")
    return 0


def _end(program: str, status: int, message: str) -> int:
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return status
