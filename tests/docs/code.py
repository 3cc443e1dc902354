"""The code and the commands of a page in Markdown."""

import re
import shlex
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    *sorted((ROOT / "docs" / "pages").glob("*.md")),
]

# Put behind a command: the same options, less work. None: the command is not run here, and why.
LESS = {
    "scoresde train": "optimization.steps=3 levels.budgets=[]",
    "scoresde sample": "--n 4 --nfe 4",
    "scoresde measure": None,  # tests of the command run it
    "scoresde tune": None,  # tests of the command run it
    "scoresde edit": None,  # tests of the command run it
    "python benchmarks/levels.py": None,  # its own tests run it
    "python benchmarks/posterior.py": None,  # its own tests run it
    "python benchmarks/run.py": "--n-samples 10 --nfe 8 --converged 8 --quiet --out runs/results",
    "python benchmarks/overhead.py": "--solver ddim --repeats 1",
    "python benchmarks/latency.py": "--nfe 2 --batch-size 1 --seconds 0.01 --quiet --out runs/results",
    "python benchmarks/train_features.py": None,  # needs the training images
    "python benchmarks/plot.py": None,  # needs results
    "python benchmarks/certify.py": None,  # its own tests run it
    "python benchmarks/compare.py": None,  # its own tests run it
    "python benchmarks/coverage.py": None,  # takes minutes
    "python benchmarks/tuned.py": None,  # its own tests run it
    "python docs/comparison.py": None,  # writes into the repository
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def python(page: Path) -> list[str]:
    """The blocks of Python, in order: they run in one namespace."""
    return [text for language, text in blocks(page) if language == "python"]


def commands(page: Path) -> list[str]:
    """The commands of a page, without comments."""
    return [
        line.split("  #")[0].strip()
        for language, text in blocks(page)
        if not language
        for line in text.splitlines()
        if line.startswith(("scoresde", "python"))
    ]


def shortened(command: str) -> list[str] | None:
    """The words of a command with less work; None where it is not run."""
    start = next(start for start in LESS if command.startswith(start))
    less = LESS[start]
    without_gpu = "--device cuda" in command and not torch.cuda.is_available()
    if less is None or "data.source" in command or without_gpu:
        return None
    # Compiling takes minutes, and a C++ compiler.
    words = [word for word in shlex.split(f"{command} {less}") if word != "--compile"]
    program = {"python": [sys.executable], "scoresde": [sys.executable, "-m", "scoresde.cli"]}[words[0]]
    return program + words[1:]
