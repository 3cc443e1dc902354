"""``scoresde measure``: find levels and a solver for a trained network, for each number of calls."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..devices import device_of, exact_float32
from ..files import write_atomically
from ..plans.fingerprint import fingerprint
from ..processes.sde import SDE
from ..spacings.measured import Measured
from ..training.levels import LEVELS, levels_file
from ..tuning.levels_picture import draw_levels
from ..tuning.measured_levels import BUDGETS, measured
from .options import add_draws, add_machine, add_network, integer_from
from .shared import check_writable, checkpoint_path, is_included, labels_asked, load, say


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde measure``."""
    add = command.add_argument
    add_network(add, "to measure for; default: all classes of the training data, equally")
    calls = f"network calls, a choice for each number; default {' '.join(map(str, BUDGETS))}"
    add("--nfe", type=integer_from(2), nargs="+", default=list(BUDGETS), metavar="N", help=calls)
    out = f"default {LEVELS} beside your checkpoint; here with --sde or for an included network"
    add("--out", type=Path, metavar="FILE", help=f"file of the levels, and of a picture named .png; {out}")
    add("--again", action="store_true", help="replace the levels in --out, also those of other settings")
    add_draws(add, batch_size=128)
    add_machine(add)


def run(options: argparse.Namespace) -> None:
    """Measure, and write the levels and their picture. Levels of the same settings that exist are shown."""
    file = _file(options)
    device = device_of(options.device)
    network = load(options)
    labels = labels_asked(options.label, network)
    budgets = sorted(set(options.nfe))
    settings = fingerprint(network.denoiser) | {"seed": options.seed, "labels": labels, "budgets": budgets}
    if _is_done(file, settings, again=options.again):
        return
    check_writable(file.parent)
    exact_float32()  # the choice depends on small differences
    try:
        levels = measured(
            network.denoiser.to(device),
            network.shape,
            budgets=budgets,
            cond=torch.tensor(labels) if labels else None,
            seed=options.seed,
            batch_size=options.batch_size,
            device=device,
            progress=not options.quiet,
        )
        levels = replace(levels, about={**levels.about, "labels": labels})
        write(file, levels, network.denoiser.sde)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; no levels were written") from None
    say(f"{file}\n{table(levels)}")


def _file(options: argparse.Namespace) -> Path:
    """The file of the levels: ``--out``, or beside the user's own network, under its own process."""
    if options.out is not None:
        if options.out.suffix != ".json":
            raise ValueError(f"--out must be a file named .json, got {options.out}")
        out: Path = options.out
        return out
    if options.sde or is_included(options.checkpoint):
        return Path(LEVELS)
    return levels_file(checkpoint_path(options.checkpoint))


def _is_done(file: Path, settings: Mapping[str, Any], *, again: bool) -> bool:
    """Whether the file has levels of these settings; if so, print them.

    Raises:
        ValueError: it has levels of other settings, without ``again``; or something else, which is kept.
    """
    try:
        file.stat()  # unlike exists(), it refuses a name that no file can have
    except FileNotFoundError:
        return False
    levels = Measured.load(file)
    if again:
        return False
    made = {**levels.about, "budgets": [choice.calls for choice in levels.choices]}
    other = [
        f"{key} {made.get(key)}, here {value}" for key, value in settings.items() if made.get(key) != value
    ]
    if other:
        raise ValueError(
            f"{file} holds levels of other settings ({'; '.join(other)}); name another --out, or add --again"
        )
    say(f"{file} is there already\n{table(levels)}")
    return True


def write(file: Path, levels: Measured, sde: SDE) -> None:
    """Write levels and their picture, which is drawn first; without matplotlib, the levels alone."""
    picture = file.with_suffix(".png")
    try:
        content = draw_levels(levels, sde)
    except ImportError:
        print("scoresde: no picture: matplotlib is not installed", file=sys.stderr)
        picture.unlink(missing_ok=True)  # of levels that are replaced now
    else:
        write_atomically(picture, content)
    levels.save(file)


def table(levels: Measured) -> str:
    """What was measured, a line for each number of calls.

    The errors are distances to the ends of accurate runs, divided by the spread of these ends; *elsewhere* is
    the share of errors above 0.5.
    """
    rows = [("calls", "solver", "median", "RMSE", "elsewhere", "samples", "levels")]
    for choice in levels.choices:
        about = levels.about["budgets"][str(choice.calls)]
        errors = (f"{about['median']:.3g}", f"{about['rmse']:.3g}", f"{about['elsewhere']:.1%}")
        rows.append((str(choice.calls), choice.solver, *errors, str(about["samples"]), about["levels"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, f"{levels.about['evaluations']} evaluations"])
