"""Compare the time of ``import scoresde`` with that of ``import torch``: ``python benchmarks/imports.py``.

Starts fresh processes in turn, and prints the median of each and their ratio. Exits with 1 if the ratio is
above the bar, 1.2. Only an idle machine gives a fair ratio.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import command

BAR = 1.2
ROOT = Path(__file__).parent.parent
MODULES = ("torch", "scoresde")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 above the bar; bad input is one line on stderr and 2."""
    parser = command.parser_of(__file__, __doc__)
    command.add_shared(parser, "repeats")
    return command.execute(parser, _main, arguments)


def _main(options: argparse.Namespace) -> int:
    command.at_least(1, options, "repeats")
    found: dict[str, list[float]] = {module: [] for module in MODULES}
    for module in MODULES:
        seconds(module)  # reads the files into the memory of the system
    for _ in range(options.repeats):
        for module in MODULES:
            found[module].append(seconds(module))
    medians = {module: statistics.median(values) for module, values in found.items()}
    ratio = medians["scoresde"] / medians["torch"]
    for module, median in medians.items():
        print(f"import {module}: {median:.3f} s")
    print(f"ratio: {ratio:.2f}, at most {BAR:g} ({'holds' if ratio <= BAR else 'fails'})")
    return 0 if ratio <= BAR else 1


def seconds(module: str) -> float:
    """The time of a fresh process that imports a module."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], cwd=ROOT, check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
