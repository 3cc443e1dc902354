"""Measured levels of a network, chosen by hand."""

from scoresde.plans.fingerprint import fingerprint
from scoresde.spacings import FlowTime
from scoresde.spacings.measured import Choice, Measured, ends_of

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


def take_by_hand(monkeypatch, command):
    """Let a module of a command take levels by hand in place of a measurement; returns what it asks for."""
    asked = []

    def measuring(denoiser, shape, **options):
        asked.append({"denoiser": denoiser, "shape": shape, **options})
        choices = [Choice(calls, "velocity-p3c4", FlowTime(2.0, calls)) for calls in options["budgets"]]
        return made_up(denoiser, choices, seed=options["seed"])

    monkeypatch.setattr(f"scoresde.cli.{command}.measured", measuring)
    return asked
