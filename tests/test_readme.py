"""What the README shows works: its Python runs, and its commands run on fewer samples and steps."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith(("scoresde", "python"))
]
# Put behind a command: the same options, less work.
LESS = {
    "scoresde train": "optimization.steps=3",
    "scoresde sample": "--n 4 --nfe 4",
    "python benchmarks/run.py": "--n-samples 10 --nfe 8 --converged 8 --quiet --out runs/results",
    "python benchmarks/train_features.py": None,  # needs the training images
    "python benchmarks/plot.py": None,  # needs results
    "python benchmarks/certify.py": None,  # test_certify runs it
    "python benchmarks/compare.py": None,  # test_compare runs it
    "scoresde tune": None,  # test_cli runs it
    "python benchmarks/tuned.py": None,  # test_tuned_benchmark runs it
    "python benchmarks/overhead.py": "--solver ddim --repeats 1",
    "python benchmarks/latency.py": "--nfe 2 --batch-size 1 --repeats 1 --quiet --out runs/results",
}


def test_the_python_runs(capsys):
    pytest.importorskip("diffusers")
    code = [block for language, block in BLOCKS if language == "python"]
    assert len(code) >= 4
    names = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), names)
    assert names["x"].isfinite().all()
    assert "network(" in capsys.readouterr().out


def test_the_commands_run(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    ran = 0
    for command in COMMANDS:
        start = next(start for start in LESS if command.startswith(start))
        if LESS[start] is None or "data.source" in command:
            continue
        if "--device cuda" in command and not torch.cuda.is_available():
            continue
        # Compiling takes minutes, and a C++ compiler.
        words = [word for word in shlex.split(f"{command} {LESS[start]}") if word != "--compile"]
        words[:1] = {"python": [sys.executable], "scoresde": [sys.executable, "-m", "scoresde.cli"]}[words[0]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran += 1
    assert ran >= 4


def test_the_solvers_of_the_table_are_those_of_the_registry():
    from scoresde import SOLVERS

    rows = re.findall(r"^\| (`.*?`) \| ", README, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert set(SOLVERS) <= named


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
