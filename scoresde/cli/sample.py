"""``scoresde sample``: draw samples from a trained network."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.pictures import check_images, save_grid, save_image
from ..data.pixels import to_uint8
from ..denoisers.protocol import Counted
from ..devices import device_of
from ..files import write_atomically
from ..plans.fingerprint import fingerprint
from ..plans.plan import Plan
from ..processes.sde import SDE
from ..sampling.prepare import prepare
from ..sampling.sample import sample
from ..sampling.tuned import is_tuned
from ..solvers.catalogue import SOLVERS, solver_of
from ..solvers.integrators.base import Integration, Integrator
from ..spacings.catalogue import SPACINGS
from ..spacings.default import program_spacing
from ..spacings.formulas import Spacing
from ..spacings.measured import Measured
from .levels import CALLS, MEASURED, content_of, levels_asked, said_of
from .options import LARGEST, Add, add_draws, add_guidance, add_machine, add_network, integer_from
from .shared import Loaded, check_writable, guided_as, labels_asked, load, say

RECORD, IMAGES, GRID, VECTORS = "run.json", "images", "grid.png", "samples.json"
NUMBERED = re.compile(r"\d{6,}\.png")  # the name of an image


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde sample``."""
    add = command.add_argument
    add_network(add, "repeated over the samples; default: all classes of the training data, in turn")
    add_guidance(add)
    _add_solver(add)
    add("--n", type=integer_from(1), default=64, metavar="N", help="number of samples; default 64")
    first = "number of the first sample; default 0"
    add("--first", type=integer_from(0), default=0, metavar="ID", help=first)
    add("--out", type=Path, default=Path("samples"), metavar="FOLDER", help="output folder; default samples/")
    again = "remove samples of other settings from --out, and write the new ones"
    add("--again", action="store_true", help=again)
    add_draws(add, batch_size=256)
    add_machine(add)


def _add_solver(add: Add) -> None:
    add(
        "--solver",
        default="auto",
        metavar="NAME",
        help="default auto, which suits --nfe; options as NAME:key=value,key=value; tuned, tuned:FILE.json, "
        f"{', '.join(SOLVERS)}",
    )
    add(
        "--nfe",
        type=integer_from(1),
        metavar="N",
        help="maximum number of network calls for each sample; default 20; for tuned:FILE.json, as in the "
        "file; for a solver with steps by tolerance, unlimited; tuned has no default",
    )
    add(
        "--spacing",
        metavar="NAME",
        help="default for auto: measured, the levels beside the network, if scoresde measure made them, or "
        "flow-time; for another solver: karras (flow-time for an SDE with alpha = 0 at t_max); not for a "
        f"tuned plan; {', '.join(SPACINGS)}",
    )
    add("--to-clean", action="store_true", help="end with a step to sigma = 0; it counts in --nfe")


def run(options: argparse.Namespace) -> None:
    """Draw samples, and write each under its number."""
    if options.first + options.n - 1 > LARGEST:
        raise ValueError(f"--first + --n must be at most 2^63, got {options.first} and {options.n}")
    device = device_of(options.device)
    network = load(options)
    if len(network.shape) == 3:
        check_images(network.shape)
    levels = levels_asked(options, network)
    plan = planned(options, network.denoiser.sde, levels)
    labels = labels_asked(options.label, network)
    denoiser = guided_as(options, network, network.denoiser.to(device))
    settings = _settings(options, network, labels, levels)
    stale = _stale(options.out, settings, again=options.again)
    check_writable(options.out)
    if isinstance(levels, Measured) and options.spacing in (None, "", MEASURED):
        say(said_of(options, levels))
    ids = options.first + torch.arange(options.n)
    counted = Counted(denoiser)
    try:
        x = sample(
            counted,
            plan,
            (options.n, *network.shape),
            seed=options.seed,
            ids=ids,
            cond=torch.tensor(labels)[ids % len(labels)] if labels else None,
            batch_size=options.batch_size,
            device=device,
            progress=not options.quiet,
        ).cpu()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; no sample was written: all are drawn first") from None
    for path in stale:
        path.unlink()
    write_atomically(options.out / RECORD, json.dumps(settings, indent=2).encode())
    where = _write(options.out, ids, x)
    say(f"{options.n} samples of {counted.evaluations / options.n:.4g} network calls: {where}")


def planned(options: argparse.Namespace, sde: SDE, levels: Spacing | None = None) -> Plan | Integration:
    """The plan or integration that the options name, on levels from a file if there are any."""
    if is_tuned(options.solver):
        return prepare(options.solver, sde, options.nfe, options.spacing or None, to_clean=options.to_clean)
    solver = solver_of(options.solver)
    spacing = levels or options.spacing or program_spacing(sde, options.solver)
    if options.nfe is None and isinstance(solver, Integrator):
        try:
            return prepare(solver, sde, None, spacing, to_clean=options.to_clean)
        except ValueError:  # its steps are fixed, so it needs a budget; any other fault is raised again below
            pass
    return prepare(options.solver, sde, options.nfe or CALLS, spacing, to_clean=options.to_clean)


def _settings(
    options: argparse.Namespace, network: Loaded, labels: list[int], levels: Spacing | None
) -> dict[str, Any]:
    """All that determines sample k, for every k: samples of equal settings may share a folder."""
    names = ("solver", "nfe", "spacing", "to_clean", "seed")
    settings = {name: getattr(options, name) for name in names}
    if len(network.shape) != 3:  # one file holds all vectors
        settings |= {"first": options.first, "n": options.n}
    if options.guidance is not None:
        settings |= {"guidance": options.guidance, "guidance_interval": options.guidance_interval}
    if levels is not None:  # a file may change
        settings["levels"] = content_of(levels)
    return fingerprint(network.denoiser) | settings | {"labels": labels}


def _stale(folder: Path, settings: dict[str, Any], *, again: bool) -> list[Path]:
    """The files of other settings in the folder, to be removed; ValueError without ``again``.

    Samples of equal settings stay: sample k is the same in every command.
    """
    record = folder / RECORD
    files = [folder / GRID, folder / VECTORS, *_numbered(folder), *_numbered(folder / IMAGES)]
    files = [path for path in files if path.exists()]
    if not files:
        return []
    if not record.exists():
        raise ValueError(
            f"{folder} holds {files[0].name}, but no {RECORD}; name another --out, or remove the file"
        )
    try:
        before = json.loads(record.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{record} is damaged; name another --out: {error}") from None
    if before == settings:
        return []
    if not again:
        raise ValueError(f"{folder} holds samples of other settings; name another --out, or add --again")
    return files


def _numbered(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if NUMBERED.fullmatch(path.name))


def _write(folder: Path, ids: Tensor, x: Tensor) -> str:
    """Write each image under its number and a picture of the first 256, or all vectors; returns where."""
    if x.ndim != 4:
        write_atomically(folder / VECTORS, json.dumps(x.tolist()).encode())
        return str(folder / VECTORS)
    for number, image in zip(ids.tolist(), to_uint8(x), strict=True):
        save_image(folder / IMAGES / f"{number:06d}.png", image)
    save_grid(folder / GRID, x[:256])
    return f"{folder / IMAGES}/, a picture of them in {folder / GRID}"
