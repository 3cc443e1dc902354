"""``scoresde tune``: fit solvers to a trained network."""

import argparse
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike
from ..devices import device_of, exact_float32
from ..files import locked
from ..plans.fingerprint import fingerprint
from ..plans.plan import Plan
from ..spacings.measured import Measured
from ..training.levels import usable_levels
from ..tuning.picture import draw
from ..tuning.report import Report
from ..tuning.settings import Settings, check_budget
from ..tuning.tune import tune
from .options import Add, add_compile, add_draws, add_guidance, add_machine, add_network, integer_from
from .shared import Loaded, checkpoint_path, guided_as, labels_asked, load, say

SETTINGS = ("samples", "held_out", "starts", "finalists", "gamma")  # those that are options
PRECISIONS = ("float32", "bfloat16", "float16")


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde tune``."""
    add = command.add_argument
    add_network(add, "to tune for; default: all classes of the training data, equally")
    add_guidance(add)
    add(
        "--nfe",
        type=integer_from(2),
        nargs="+",
        default=[4, 5, 6, 8, 10],
        metavar="N",
        help="network calls, one table for each number; default 4 5 6 8 10",
    )
    add("--out", type=Path, default=Path("tuned"), metavar="FOLDER", help="output folder; default tuned/")
    levels = "file of measured levels; default: levels.json beside the network, if it is there"
    add("--levels", type=Path, metavar="FILE", help=levels)
    _add_settings(add)
    network = "precision of the network; default float32"
    add("--dtype", default="float32", choices=PRECISIONS, help=network)
    draft = "precision of the network for comparing stock solvers; default: as --dtype"
    add("--draft-dtype", choices=PRECISIONS, help=draft)
    add_draws(add, batch_size=128)
    add_compile(add)
    add_machine(add)


def _add_settings(add: Add) -> None:
    """The settings of :class:`scoresde.tuning.Settings` that are options."""
    counts = {
        "samples": "noises to fit on",
        "held-out": "other noises, to compare the result with the best stock solver",
        "starts": "stock solvers to start a fit from",
        "finalists": "these fits that run to the end",
    }
    for name, what in counts.items():
        default = getattr(Settings, name.replace("-", "_"))
        text = f"number of {what}; default {default}"
        add(f"--{name}", type=integer_from(1), default=default, metavar="N", help=text)
    text = f"weight of the energies in frequency bands, in the objective; default {Settings.gamma}"
    add("--gamma", type=float, default=Settings.gamma, help=text)


def run(options: argparse.Namespace) -> None:
    """Tune for each budget. The largest is first: its teacher serves all. A table that exists is shown."""
    settings = Settings(**{name: getattr(options, name) for name in SETTINGS})
    budgets = sorted(set(options.nfe), reverse=True)
    for nfe in budgets:
        check_budget(nfe, settings)
    exact_float32()  # a fit depends on small differences
    task = _task(options, settings)
    with locked(task.folder):
        try:
            for nfe in budgets:
                if not task.is_done(nfe):
                    task.tune(nfe)
        except KeyboardInterrupt:
            if not task.state.exists():
                raise
            raise KeyboardInterrupt(f"interrupted; the same command continues from {task.state}") from None
        shutil.rmtree(task.state, ignore_errors=True)


def _task(options: argparse.Namespace, settings: Settings) -> "_Task":
    """The network in its precisions, its labels and the settings."""
    device = device_of(options.device)
    network = load(options, getattr(torch, options.dtype))
    levels = _levels(options, network)
    denoiser = guided_as(options, network, network.denoiser.to(device))
    labels = labels_asked(options.label, network)
    if options.compile and isinstance(denoiser.net, torch.nn.Module):
        denoiser.net.compile(dynamic=False, options={"freezing": True})
    made_for = {name: getattr(options, name) for name in (*SETTINGS, "seed")} | {"labels": labels}
    draft = None
    if options.draft_dtype not in (None, options.dtype):
        draft = denoiser.at(getattr(torch, options.draft_dtype))
        made_for["draft"] = options.draft_dtype
    return _Task(
        options.out,
        denoiser,
        network.shape,
        draft,
        torch.tensor(labels) if labels else None,
        fingerprint(denoiser) | made_for,
        {
            "settings": settings,
            "levels": levels,
            "seed": options.seed,
            "batch_size": options.batch_size,
            "device": device,
            "progress": not options.quiet,
        },
    )


def _levels(options: argparse.Namespace, network: Loaded) -> Measured | None:
    """The levels of ``--levels``, or those beside the network."""
    if options.levels is not None:
        return Measured.load(options.levels)
    return usable_levels(checkpoint_path(options.checkpoint), network.denoiser)


@dataclass(frozen=True)
class _Task:
    """All that the budgets of one command share.

    Args:
        folder: of the plans, pictures and reports.
        denoiser: the network to tune for.
        shape: of one sample.
        draft: the same network in the precision for comparing stock solvers.
        cond: the labels to tune for.
        made_for: the network and the settings, as the plans record them.
        options: of :func:`scoresde.tune`.
    """

    folder: Path
    denoiser: DenoiserLike
    shape: tuple[int, ...]
    draft: DenoiserLike | None
    cond: Tensor | None
    made_for: Mapping[str, Any]
    options: Mapping[str, Any]

    @property
    def state(self) -> Path:
        """The folder of a tuning that is not finished."""
        return self.folder / "state"

    def files(self, nfe: int) -> tuple[Path, Path, Path]:
        """Plan, picture and report of a budget. The report is written last."""
        names = f"tuned-{nfe}.json", f"tuned-{nfe}.png", f"report-{nfe}.json"
        plan, picture, report = (self.folder / name for name in names)
        return plan, picture, report

    def is_done(self, nfe: int) -> bool:
        """Whether the plan of a budget exists; if so, print its report.

        Raises:
            ValueError: it is the plan of another network, or of other settings.
        """
        file, _, kept = self.files(nfe)
        if not kept.exists():
            return False
        about = Plan.load(file).about or {}
        # A key that an older plan does not have is not compared.
        other = [
            f"{key} {about[key]}, here {value}"
            for key, value in self.made_for.items()
            if about.get(key, value) != value
        ]
        if other:
            raise ValueError(
                f"{file} is of another tuning ({'; '.join(other)}); remove it and {kept}, or name another "
                f"--out"
            )
        say(f"{file} is there already\n{Report.load(kept)}\n")
        return True

    def tune(self, nfe: int) -> None:
        """Tune for a budget, and write the plan, its picture and its report."""
        plan, report = tune(
            self.denoiser, nfe, self.shape, cond=self.cond, draft=self.draft, state=self.state, **self.options
        )
        file, picture, kept = self.files(nfe)
        replace(plan, about={**(plan.about or {}), **self.made_for}).save(file)
        try:
            shown = {name: self.options[name] for name in ("device", "levels")}
            draw(picture, self.denoiser, plan, report, self.shape, self.cond, **shown)
        except ImportError:
            print("scoresde: no picture: matplotlib is not installed", file=sys.stderr)
        report.save(kept)
        say(f"{file}\n{report}\n")
