"""Small networks that ``scoresde train`` made, and the one line of a command that was refused."""

import re

import numpy as np

from scoresde.cli.main import main

DIGITS = """
data = {source = "digits"}
network = {name = "unet", channels = [8], blocks = 1, patch = 2, classes = 10}
prediction = {name = "edm"}
optimization = {steps = 1, batch_size = 2}
levels = {budgets = []}
"""
VECTORS = """
data = {source = "FILE", images = "x", labels = "y"}
network = {name = "mlp", width = 8, classes = 2}
prediction = {name = "edm"}
sde = {name = "edm", t_min = 0.02, t_max = 20.0}
optimization = {steps = 1, batch_size = 2}
levels = {budgets = []}
"""


def trained(folder, *overrides, config=DIGITS):
    """The folder of a training run of one step."""
    (folder / "small.toml").write_text(config)
    out = folder / f"run-{len(list(folder.iterdir()))}"
    file = str(folder / "small.toml")
    assert main(["train", "--config", file, "--quiet", "--out", str(out), *overrides]) == 0
    return out


def trained_on_vectors(folder, *overrides):
    """The same for vectors of two numbers in two classes."""
    file = folder / "vectors.npz"
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    np.savez(file, x=x, y=np.arange(8) % 2)
    return trained(folder, *overrides, config=VECTORS.replace("FILE", str(file)))


def line_of(capsys):
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def refused(capsys, pattern):
    """Assert that the one line on stderr matches."""
    line = line_of(capsys)
    assert re.search(pattern, line), line
