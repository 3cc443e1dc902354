"""``scoresde edit``: change pictures with a trained network, or take their noise away."""

import argparse
import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..conditioning.guidance import guided
from ..data.given import read_mask, read_pictures
from ..data.pictures import check_images, save_grid, save_image
from ..data.pixels import to_uint8
from ..denoisers.protocol import Counted, DenoiserLike
from ..devices import device_of
from ..files import write_atomically
from ..plans.plan import Plan
from ..processes.sde import SDE
from ..sampling.editing import decode, denoised, encode, noised, redrawn, repainted, up_to
from ..solvers.integrators.base import Integration
from ..spacings.grid import Grid
from .options import Add, add_draws, add_machine, add_network, integer_from
from .sample import planned
from .shared import Loaded, check_writable, labels_asked, load, say

IMAGES, SHEET, NUMBERS = "images", "sheet.png", "edited.npz"
NUMBERED = re.compile(r"\d{6}-[\w.+-]+\.png")  # the name of an image: its number and its column
SHOWN = 256  # images of the sheet, about

SOLVER, CALLS, LEVELS = "dpmpp-2m-sde", 50, "karras"
DRAWS = 8  # of --denoise
CLEANEST = 0.05  # sigma / alpha where --to begins: given pictures have no noise, which lower levels expect

Columns = dict[str, Tensor]  # what is shown of each picture, by name: (N, C, H, W)


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde edit``."""
    add = command.add_argument
    files = "pictures of the size of the network's; or .npy files, and .npz files of one array"
    add("pictures", type=Path, nargs="+", metavar="FILE", help=files)
    _add_actions(command.add_mutually_exclusive_group(required=True).add_argument)
    add_network(add, "of the pictures, repeated over them; default: no class")
    guidance = "strength of the guidance towards the label, of --to if it is given; default 1, without"
    add("--guidance", type=float, default=1.0, metavar="W", help=guidance)
    add("--draws", type=integer_from(1), metavar="N", help=f"results; default 1, with --denoise {DRAWS}")
    noise = "with --denoise: add the noise to the pictures first"
    add("--add-noise", action="store_true", help=noise)
    height = "with --to: the noisiest sigma / alpha; a lower one keeps more; default: of the network"
    add("--up-to", type=float, metavar="SIGMA", help=height)
    add("--solver", metavar="NAME", help=f"not with --to; as of scoresde sample; default {SOLVER}")
    add("--nfe", type=integer_from(1), default=CALLS, metavar="N", help=f"calls of a run; default {CALLS}")
    add("--spacing", metavar="NAME", help="as of scoresde sample; default karras; flow-time for auto")
    add("--to-clean", action="store_true", help="not with --to; end with a step to sigma = 0")
    add("--out", type=Path, default=Path("edited"), metavar="FOLDER", help="output folder; default edited/")
    add("--again", action="store_true", help="remove the results of an earlier command from --out")
    add_draws(add, batch_size=256)
    add_machine(add)


def _add_actions(add: Add) -> None:
    start = "add noise of these sigma / alpha, and take it away: the more, the less is kept"
    add("--from", dest="sigmas", type=float, nargs="+", metavar="SIGMA", help=start)
    noisy = (
        "the pictures have noise of this deviation, in units of [-1, 1]: draws without it, mean, deviation"
    )
    add("--denoise", type=float, metavar="SIGMA", help=noisy)
    other = (
        f"make the class --label this one, and keep the style, by exact inversion from sigma {CLEANEST} on"
    )
    add("--to", nargs="+", metavar="K", help=other)
    add("--mask", type=Path, metavar="FILE", help="repaint where this picture is black")


class Setting(NamedTuple):
    """What all actions have in common: the network, and the arguments of its runs."""

    network: Loaded
    plain: Counted
    denoiser: DenoiserLike  # with guidance, if it was asked for
    cond: Tensor | None
    run: dict[str, Any]


def run(options: argparse.Namespace) -> None:
    """Edit the pictures, and write a sheet, each picture, and the numbers."""
    action = _action(options)
    device = device_of(options.device)
    network = load(options)
    check_images(network.shape)
    x = read_pictures(options.pictures, network.shape, noisy=options.denoise is not None)
    work = action(options, _setting(options, network, device, len(x)), x)
    stale = _stale(options.out, again=options.again)
    check_writable(options.out)
    try:
        columns = {name: values.cpu() for name, values in work().items()}
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; nothing was written") from None
    for path in stale:
        path.unlink()
    _write(options.out, columns)
    say(f"{len(x)} pictures: {options.out / SHEET}, {options.out / IMAGES}/, {options.out / NUMBERS}")


Work = Callable[[], Columns]
Action = Callable[[argparse.Namespace, Setting, Tensor], Work]


def _action(options: argparse.Namespace) -> Action:
    """The action that the options name; ValueError for an option of another action."""
    if options.sigmas:
        name, action = "--from", _redraw
    elif options.denoise is not None:
        name, action = "--denoise", _denoise
    elif options.to:
        name, action = "--to", _change
    else:
        name, action = "--mask", _repaint
    noisy = ("--from", "--denoise", "--mask")
    only: dict[str, tuple[str, ...]] = {"solver": noisy, "to_clean": noisy, "draws": noisy}
    only |= {"add_noise": ("--denoise",), "up_to": ("--to",)}
    for option, where in only.items():
        if getattr(options, option) not in (None, False) and name not in where:
            raise ValueError(f"--{option.replace('_', '-')} is for {', '.join(where)}, got {name}")
    return action


def _redraw(options: argparse.Namespace, setting: Setting, x: Tensor) -> Work:
    runs = {sigma: _planned(options, up_to(setting.plain.sde, sigma)) for sigma in options.sigmas}
    draws = options.draws or 1

    def work() -> Columns:
        columns = {"input": x}
        for sigma, run in runs.items():
            drawn = redrawn(setting.denoiser, run, x, draws=draws, cond=setting.cond, **setting.run)
            columns |= _numbered(f"from-{sigma:g}", drawn)
        return columns

    return work


def _denoise(options: argparse.Namespace, setting: Setting, x: Tensor) -> Work:
    run = _planned(options, up_to(setting.plain.sde, options.denoise))
    if not run.stochastic:
        raise ValueError(f"--denoise needs a solver that draws noise, such as {SOLVER}, got {options.solver}")
    # At this level noise is added as to x / alpha, which is the picture.
    y = noised(run.start, x, seed=options.seed) / run.start.alpha if options.add_noise else x
    draws = options.draws or DRAWS

    def work() -> Columns:
        drawn = denoised(setting.denoiser, run, y, draws=draws, cond=setting.cond, **setting.run)
        columns = ({"input": x} if options.add_noise else {}) | {"noisy": y} | _numbered("draw", drawn)
        if draws > 1:
            columns |= {"mean": drawn.mean(1), "deviation": drawn.std(1)}
        return columns

    return work


def _change(options: argparse.Namespace, setting: Setting, x: Tensor) -> Work:
    sde, network = setting.plain.sde, setting.network
    new = labels_asked(options.to, network, "--to")
    if options.label is None:
        raise ValueError("--to needs --label, the class of the pictures")
    sde = sde if options.up_to is None else up_to(sde, options.up_to)
    if options.up_to is not None and options.up_to <= CLEANEST:
        raise ValueError(f"--up-to must be above {CLEANEST}, got {options.up_to}")
    grid = Grid.build(sde.clip(-math.inf, -math.log(CLEANEST)), options.nfe, options.spacing or LEVELS)
    cond = _over(new, len(x))
    settings = {name: value for name, value in setting.run.items() if name != "seed"}

    def work() -> Columns:
        latent = encode(setting.plain, grid, x, cond=setting.cond, **settings)
        return {"input": x, "edited": decode(setting.denoiser, grid, latent, cond=cond, **settings)}

    return work


def _repaint(options: argparse.Namespace, setting: Setting, x: Tensor) -> Work:
    run = _planned(options, setting.plain.sde)
    mask = read_mask(options.mask, setting.network.shape[1:])
    if mask.all():
        raise ValueError(f"--mask must be black where pictures are repainted, {options.mask} is white")
    draws = options.draws or 1

    def work() -> Columns:
        drawn = repainted(setting.denoiser, run, x, mask, draws=draws, cond=setting.cond, **setting.run)
        return {"input": x, "kept": torch.where(mask, x, 0.0)} | _numbered("repainted", drawn)

    return work


def _setting(options: argparse.Namespace, network: Loaded, device: torch.device, samples: int) -> Setting:
    plain = Counted(network.denoiser.to(device))
    denoiser: DenoiserLike = plain
    if options.guidance != 1:
        if network.no_class is None:
            raise ValueError("--guidance needs a network that was trained with and without labels")
        if options.label is None:
            raise ValueError("--guidance needs --label, the class to lead to")
        denoiser = guided(plain, network.no_class, options.guidance)
    run = {"batch_size": options.batch_size, "device": device, "progress": not options.quiet}
    labels = _labels(options, network)
    return Setting(network, plain, denoiser, _over(labels, samples), run | {"seed": options.seed})


def _labels(options: argparse.Namespace, network: Loaded) -> list[int]:
    """The labels of the pictures; none for a network without classes."""
    if options.label is not None or not network.seen:
        return labels_asked(options.label, network)
    if network.no_class is None:
        raise ValueError("--label must be given: the network was not trained without labels")
    return [network.no_class]


def _over(labels: list[int], samples: int) -> Tensor | None:
    """The labels, repeated over the samples."""
    return torch.tensor(labels)[torch.arange(samples) % len(labels)] if labels else None


def _planned(options: argparse.Namespace, sde: SDE) -> Plan | Integration:
    """The run of the options on the levels of a process."""
    solver = options.solver or SOLVER
    return planned(argparse.Namespace(**vars(options) | {"solver": solver}), sde)


def _numbered(name: str, drawn: Tensor) -> Columns:
    """Draws ``(N, draws, C, H, W)`` as columns; a single one needs no number."""
    if drawn.shape[1] == 1:
        return {name: drawn[:, 0]}
    return {f"{name}-{j}": draw for j, draw in enumerate(drawn.unbind(1))}


def _stale(folder: Path, *, again: bool) -> list[Path]:
    """The files of an earlier command in the folder, to be removed; ValueError without ``again``."""
    images = [path for path in (folder / IMAGES).glob("*.png") if NUMBERED.fullmatch(path.name)]
    files = [path for path in (folder / SHEET, folder / NUMBERS, *sorted(images)) if path.exists()]
    if files and not again:
        raise ValueError(f"{folder} holds {files[0].name}; name another --out, or add --again")
    return files


def _write(folder: Path, columns: Columns) -> None:
    """Write the numbers; and each image, and a sheet with a row for each picture."""
    file = io.BytesIO()
    np.savez(file, **{name: values.numpy() for name, values in columns.items()})  # type: ignore[arg-type]
    write_atomically(folder / NUMBERS, file.getvalue())
    if "deviation" in columns:  # 0 is black and 1, the largest of numbers in [-1, 1], is white
        columns = columns | {"deviation": 2 * columns["deviation"] - 1}
    for name, values in columns.items():
        for number, image in enumerate(to_uint8(values)):
            save_image(folder / IMAGES / f"{number:06d}-{name}.png", image)
    rows = torch.stack(list(columns.values()), 1)[: max(1, SHOWN // len(columns))]
    save_grid(folder / SHEET, rows.flatten(0, 1), columns=len(columns))
