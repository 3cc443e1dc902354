"""``scoresde tune``: fit solvers to a trained network."""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..denoisers.transported import Transported
from ..devices import device_of, exact_float32
from ..files import locked
from ..plans.fingerprint import fingerprint
from ..plans.plan import Plan
from ..tuning.picture import draw
from ..tuning.report import Report
from ..tuning.settings import Settings, check_budget
from ..tuning.tune import tune
from .shared import Loaded, add_network, labels_asked, load, say

SETTINGS = ("samples", "held_out", "starts", "finalists", "gamma")  # that are options


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde tune``."""
    add = command.add_argument
    add_network(add, "to tune for; default: all classes of the training data, equally")
    add(
        "--nfe",
        type=int,
        nargs="+",
        default=[4, 5, 6, 8, 10],
        metavar="N",
        help="network calls, a table for each; default 4 5 6 8 10",
    )
    add("--out", type=Path, default=Path("tuned"), metavar="FOLDER", help="where to write; default tuned/")
    _add_settings(add)
    add("--seed", type=int, default=0, help="seed of the noises; default 0")
    add("--batch-size", type=int, default=128, metavar="N", help="samples at a time; default 128")
    precisions = ("float32", "bfloat16", "float16")
    add("--dtype", default="float32", choices=precisions, help="precision of the network; default float32")
    add(
        "--draft-dtype",
        choices=precisions,
        help="precision of the network for comparing stock solvers; default: that of --dtype",
    )
    add("--compile", action="store_true", help="compile the network first (torch.compile)")


def _add_settings(add: Callable[..., object]) -> None:
    """Those of :class:`scoresde.tuning.Settings`."""
    add("--samples", type=int, default=256, metavar="N", help="number of noises to fit on; default 256")
    add(
        "--held-out",
        type=int,
        default=1024,
        metavar="N",
        help="number of other noises, to compare the result with the best stock solver; default 1024",
    )
    add(
        "--starts",
        type=int,
        default=4,
        metavar="N",
        help="number of stock solvers that a fit starts from; default 4",
    )
    add(
        "--finalists",
        type=int,
        default=1,
        metavar="N",
        help="number of these fits that run to the end; default 1",
    )
    add(
        "--gamma",
        type=float,
        default=0.2,
        help="weight of the energies in bands, in the objective; default 0.2",
    )


def run(options: argparse.Namespace) -> None:
    """Tune for each budget. The largest is first: its teacher serves all. A table that exists is shown."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    given = {name: getattr(options, name) for name in SETTINGS}
    settings = Settings(**given)
    for nfe in options.nfe:
        check_budget(nfe, settings)
    device = device_of(options.device)
    exact_float32()  # a fit is made of small differences
    network = load(options, getattr(torch, options.dtype))
    denoiser = network.denoiser.to(device)
    labels = labels_asked(options.label, network)
    cond = torch.tensor(labels) if labels else None
    if options.compile and isinstance(denoiser.net, torch.nn.Module):
        denoiser.net.compile(dynamic=False, options={"freezing": True})
    draft = None
    if options.draft_dtype not in (None, options.dtype):
        draft = denoiser.at(getattr(torch, options.draft_dtype))
    state = options.out / "state"
    made_for = fingerprint(denoiser) | given | {"seed": options.seed, "labels": labels}
    if draft is not None:
        made_for["draft"] = options.draft_dtype
    with locked(options.out):
        try:
            for nfe in sorted(set(options.nfe), reverse=True):
                if not _is_there(options.out, nfe, made_for):
                    _tune(options, nfe, network, cond, draft, settings, state, made_for)
        except KeyboardInterrupt:
            if not state.exists():
                raise
            raise KeyboardInterrupt(f"interrupted; the same command goes on from {state}") from None
        shutil.rmtree(state, ignore_errors=True)


def _files(folder: Path, nfe: int) -> tuple[Path, Path, Path]:
    """Of a budget's plan, its picture, and its report, which is written last."""
    return folder / f"tuned-{nfe}.json", folder / f"tuned-{nfe}.png", folder / f"report-{nfe}.json"


def _is_there(folder: Path, nfe: int, made_for: Mapping[str, Any]) -> bool:
    """Show what was tuned for a budget before, if it was; ValueError if it was another tuning."""
    file, _, kept = _files(folder, nfe)
    if not kept.exists():
        return False
    about = Plan.load(file).about or {}
    # Plans of before say less of what they were made for.
    other = [
        f"{key} {about[key]}, here {value}"
        for key, value in made_for.items()
        if about.get(key, value) != value
    ]
    if other:
        raise ValueError(
            f"{file} is of another tuning ({'; '.join(other)}); remove it and {kept}, or name another --out"
        )
    say(f"{file} is there already\n{Report.load(kept)}\n")
    return True


def _tune(
    options: argparse.Namespace,
    nfe: int,
    network: Loaded,
    cond: Tensor | None,
    draft: Denoiser | Transported | None,
    settings: Settings,
    state: Path,
    made_for: Mapping[str, Any],
) -> None:
    """Tune for one budget, and write the plan, its picture and its report."""
    device = torch.device(options.device)
    plan, report = tune(
        network.denoiser,
        nfe,
        network.shape,
        cond=cond,
        seed=options.seed,
        settings=settings,
        batch_size=options.batch_size,
        device=device,
        draft=draft,
        state=state,
        progress=not options.quiet,
    )
    file, picture, kept = _files(options.out, nfe)
    replace(plan, about={**(plan.about or {}), **made_for}).save(file)
    try:
        draw(picture, network.denoiser, plan, report, network.shape, cond, device)
    except ImportError:
        print("scoresde: no picture, for matplotlib is not installed", file=sys.stderr)
    report.save(kept)
    say(f"{file}\n{report}\n")
