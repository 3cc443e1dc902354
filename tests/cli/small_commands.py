"""Small networks that ``scoresde train`` made, and the one line of a command that was refused."""

import re

import numpy as np

from scoresde.cli.main import main
from scoresde.plans.fingerprint import fingerprint
from scoresde.spacings import FlowTime
from scoresde.spacings.measured import Choice, Measured, ends_of

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


CHOICES = (
    Choice(4, "velocity-p2c3", FlowTime(1.5, 0.7)),
    Choice(16, "velocity-p5c6", FlowTime(3.0, 2.8)),
)


def made_up(denoiser, choices=CHOICES, **about):
    """Levels as a measurement of this network returns them, but chosen by hand."""
    figures = {"levels": "by hand", "samples": 7, "median": 0.25, "rmse": 0.5, "elsewhere": 0.125}
    budgets = {str(choice.calls): figures for choice in choices}
    network = fingerprint(denoiser)
    about = {**network, "seed": 0, "evaluations": 1000, "budgets": budgets, **about}
    return Measured(type(denoiser.sde).__name__, ends_of(denoiser.sde), tuple(choices), about)


def line_of(capsys):
    """The one line on stderr."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def refused(capsys, pattern):
    """Assert that the one line on stderr matches."""
    line = line_of(capsys)
    assert re.search(pattern, line), line
